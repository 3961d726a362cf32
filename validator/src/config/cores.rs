//! Which CPUs each group of threads may run on, and how long threads look before they sleep.

use std::{collections::BTreeSet, fmt};

/// CPUs that can be named: as many as the kernel's interface for threads counts in one mask.
const CPUS_MAX: usize = rustix::thread::CpuSet::MAX_CPU;
/// The CPUs of this machine, those that are switched off too, in the notation of [`Cpus`].
const PRESENT: &str = "/sys/devices/system/cpu/present";

/// CPUs that threads may run on; none named for all that the process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(BTreeSet<usize>);

impl Cpus {
    /// Reads numbers and ranges with commas between them: `0-3,8`; nothing at all names none.
    ///
    /// Source: cpuset(7), list format, without the strides.
    pub fn parse(text: &str) -> Option<Self> {
        let mut named = BTreeSet::new();
        if text.is_empty() {
            return Some(Self(named));
        }
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            named.extend(first..=last);
        }
        Some(Self(named))
    }

    /// Says whether none is named, so that threads may run on all.
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }
}

impl FromIterator<usize> for Cpus {
    fn from_iter<T: IntoIterator<Item = usize>>(cpus: T) -> Self {
        Self(cpus.into_iter().collect())
    }
}

/// The number of a CPU: digits alone, without the sign that a number may have elsewhere.
fn number(text: &str) -> Option<usize> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|cpu| is_plain && *cpu < CPUS_MAX)
}

impl fmt::Display for Cpus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return formatter.write_str("any");
        }
        let mut rest = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(formatter, "{comma}{first}")?;
            if last > first {
                write!(formatter, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

/// Where threads run, and how they wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// The verify stage and the threads that check signatures.
    pub verify: Cpus,
    /// The lane and execute stages, and the bulk work beside them.
    pub stages: Cpus,
    /// The threads of the store.
    pub storage: Cpus,
    /// The engine, datagrams, TCP and HTTP.
    pub network: Cpus,
    /// How long a stage looks at its queues before it sleeps; 0 to sleep at once.
    pub busy_poll_us: u64,
    /// Whether the allocator asks for huge pages.
    pub huge_pages: bool,
}

impl Cores {
    /// Each group by its key.
    pub fn groups(&self) -> [(&'static str, &Cpus); 4] {
        [
            ("cores.verify", &self.verify),
            ("cores.stages", &self.stages),
            ("cores.storage", &self.storage),
            ("cores.network", &self.network),
        ]
    }

    /// Checks that this machine has every CPU that is named.
    ///
    /// Errors: a sentence that names the key.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.groups().iter().all(|(_, cpus)| cpus.is_any()) {
            return Ok(());
        }
        // Where the kernel does not say, the start finds out.
        let text = super::read_text(PRESENT.as_ref(), 4_096).unwrap_or_default();
        match Cpus::parse(text.trim_end()).filter(|present| !present.is_any()) {
            Some(present) => self.check_against(&present),
            None => Ok(()),
        }
    }

    fn check_against(&self, present: &Cpus) -> Result<(), String> {
        match self.first_beyond(present) {
            Some((key, cpu)) => Err(format!(
                "{key} must be CPUs that this machine has, all of them \"{present}\", found {cpu}"
            )),
            None => Ok(()),
        }
    }

    /// The first CPU that is named and not among `known`, with its key.
    pub fn first_beyond(&self, known: &Cpus) -> Option<(&'static str, usize)> {
        let mut named = self
            .groups()
            .into_iter()
            .flat_map(|(key, cpus)| cpus.iter().map(move |cpu| (key, cpu)));
        named.find(|(_, cpu)| !known.0.contains(cpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for (text, cpus, written) in [
            ("0", vec![0], "0"),
            ("0-3,8", vec![0, 1, 2, 3, 8], "0-3,8"),
            ("8,0-3", vec![0, 1, 2, 3, 8], "0-3,8"),
            ("1,2,4-4,5-6,2", vec![1, 2, 4, 5, 6], "1-2,4-6"),
            ("1023", vec![1023], "1023"),
            ("", vec![], "any"),
        ] {
            let read = Cpus::parse(text).unwrap();
            assert_eq!(read.iter().collect::<Vec<_>>(), cpus, "{text}");
            assert_eq!(read.to_string(), written);
            assert_eq!(read.is_any(), text.is_empty());
            assert_eq!(read, cpus.into_iter().collect());
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let bad = [
            " ",
            ",",
            "0,",
            ",0",
            "0,,1",
            "0-",
            "-1",
            "3-1",
            "1-2-3",
            "+1",
            "0 1",
            "0, 1",
            "all",
            "0x1",
            "0-7:2/4",
            "1024",
            "0-1024",
            "99999999999999999999",
        ];
        for text in bad {
            assert_eq!(Cpus::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_cpu_that_the_machine_lacks_is_named_with_its_key() {
        let present = Cpus::parse("0-1").unwrap();
        let cpus = |text| Cpus::parse(text).unwrap();
        let good = Cores { verify: cpus("0-1"), network: cpus("1"), ..Cores::default() };
        assert_eq!(good.check_against(&present), Ok(()));
        for place in 0..4 {
            let mut cores = good.clone();
            let groups =
                [&mut cores.verify, &mut cores.stages, &mut cores.storage, &mut cores.network];
            *groups.into_iter().nth(place).unwrap() = cpus("0,2,9");
            let key = cores.groups()[place].0;
            let expected =
                format!("{key} must be CPUs that this machine has, all of them \"0-1\", found 2");
            assert_eq!(cores.check_against(&present), Err(expected));
        }
    }
}
