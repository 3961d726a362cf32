//! The groups that were read last, as they were when their hash was right: many records of one group
//! cost one check.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of groups that are kept.
pub(crate) const BYTES_MAX: usize = 8 << 20;

/// A few groups in memory of our own, which no medium changes; the newest first.
#[derive(Default)]
pub(crate) struct Checked {
    groups: Mutex<VecDeque<Group>>,
}

type Group = ((u64, u64), Arc<Vec<u8>>);

impl Checked {
    /// The group at a segment and offset, from memory or else from `read`, which checks it.
    pub(crate) fn group<E>(
        &self,
        place: (u64, u64),
        read: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Arc<Vec<u8>>, E> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = groups.iter().position(|(other, _)| *other == place) {
            let found = groups.remove(at).expect("it was just found");
            let group = Arc::clone(&found.1);
            groups.push_front(found);
            return Ok(group);
        }
        drop(groups);
        let group = Arc::new(read()?);
        if group.len() <= BYTES_MAX / 2 {
            let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
            groups.push_front((place, Arc::clone(&group)));
            let mut bytes: usize = groups.iter().map(|(_, group)| group.len()).sum();
            while bytes > BYTES_MAX {
                bytes -= groups.pop_back().map_or(0, |(_, group)| group.len());
            }
        }
        Ok(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_last_is_kept_within_its_bytes_and_errors_are_not() {
        let checked = Checked::default();
        let mut reads = 0;
        let mut read = |place, size| {
            let group = checked.group(place, || {
                reads += 1;
                if size == 0 { Err(()) } else { Ok(vec![1; size]) }
            });
            (group.map(|group| group.len()), reads)
        };
        let size = BYTES_MAX / 4;
        assert_eq!(read((0, 0), 0), (Err(()), 1));
        for number in 0..4 {
            assert_eq!(read((0, number), size), (Ok(size), 2 + number));
        }
        assert_eq!(read((0, 0), size), (Ok(size), 5), "from memory");
        assert_eq!(read((1, 0), size), (Ok(size), 6), "one goes: the one not read for longest");
        assert_eq!(read((0, 0), size), (Ok(size), 6));
        assert_eq!(read((0, 1), size), (Ok(size), 7));
        // Too large to be kept: it would drive all others out.
        for reads in [8, 9] {
            assert_eq!(read((2, 0), BYTES_MAX), (Ok(BYTES_MAX), reads));
        }
        assert_eq!(read((0, 0), size), (Ok(size), 9));
    }
}
