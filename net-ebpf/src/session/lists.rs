//! Doubly linked lists of sessions, threaded through one array: any member leaves in one step.

/// No member.
const NONE: u32 = u32::MAX;

/// The neighbours of every session, in whichever one list it is.
pub(super) struct Links(Box<[Link]>);

#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
}

/// One list: its ends and its size.
#[derive(Clone, Copy)]
pub(super) struct List {
    first: u32,
    last: u32,
    count: usize,
}

impl Default for List {
    fn default() -> Self {
        Self { first: NONE, last: NONE, count: 0 }
    }
}

impl List {
    /// The member that is there longest.
    pub(super) fn first(&self) -> Option<usize> {
        (self.first != NONE).then(|| place(self.first))
    }

    /// How many members there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

impl Links {
    pub(super) fn new(sessions: usize) -> Self {
        Self(vec![Link { previous: NONE, next: NONE }; sessions].into_boxed_slice())
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Puts a session, which is in no list, at the end of one.
    pub(super) fn push_back(&mut self, list: &mut List, index: usize) {
        let number = number(index);
        self.0[index] = Link { previous: list.last, next: NONE };
        match list.last {
            NONE => list.first = number,
            last => self.0[place(last)].next = number,
        }
        list.last = number;
        list.count += 1;
    }

    /// Puts a session, which is in no list, at the start of one.
    pub(super) fn push_front(&mut self, list: &mut List, index: usize) {
        let number = number(index);
        self.0[index] = Link { previous: NONE, next: list.first };
        match list.first {
            NONE => list.last = number,
            first => self.0[place(first)].previous = number,
        }
        list.first = number;
        list.count += 1;
    }

    /// Takes a session out of the list that it is in.
    pub(super) fn remove(&mut self, list: &mut List, index: usize) {
        let Link { previous, next } = self.0[index];
        match previous {
            NONE => list.first = next,
            previous => self.0[place(previous)].next = next,
        }
        match next {
            NONE => list.last = previous,
            next => self.0[place(next)].previous = previous,
        }
        list.count -= 1;
    }

    /// Puts all members of `front` before those of `list`.
    pub(super) fn prepend(&mut self, list: &mut List, front: List) {
        if front.count == 0 {
            return;
        }
        match list.first {
            NONE => list.last = front.last,
            first => {
                self.0[place(first)].previous = front.last;
                self.0[place(front.last)].next = first;
            }
        }
        list.first = front.first;
        list.count += front.count;
    }
}

fn place(number: u32) -> usize {
    usize::try_from(number).expect("32 bits")
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("at most 2^20 sessions")
}
