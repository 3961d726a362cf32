//! The filter's settings as the kernel program reads them; the layout is that of `net_ebpf::tables`.

use rustix::time::{ClockId, clock_getres};

use super::frame::{PORT, SERVER, SERVER_V6};

/// CPUs with counters of their own.
pub(super) const CPUS: u32 = 256;
/// Places for verdicts.
pub(super) const COUNTERS: usize = 64;

const WORDS: usize = 8_274;
/// Drops happen, and hellos are answered.
const FLAGS: u64 = 1 | 4;

/// How fast packets of one kind may come.
#[derive(Clone, Copy)]
pub(super) struct Pace([u64; 2]);

impl Pace {
    /// As fast as they can.
    pub(super) const ALWAYS: Self = Self([1, u64::MAX >> 2]);
    /// Not one.
    pub(super) const NEVER: Self = Self([1 << 30, 1]);
}

/// All settings.
pub(super) struct Control([u64; WORDS]);

impl Control {
    /// One address of each family, a pace for whatever comes from one source, and one for answers.
    pub(super) fn new(sources: Pace, replies: Pace, tcp_port: u16) -> Self {
        let mut words = [0; WORDS];
        words[1..5].copy_from_slice(&[0x0706_0504, 0x0302_0100, 0x1234_5678_9abc_def0, !0]);
        words[5] = FLAGS | 1 << 32;
        let wire = |port: u16| u64::from(port.to_be());
        words[6] = 1 | wire(PORT) << 32 | wire(tcp_port) << 48;
        let tick = clock_getres(ClockId::MonotonicCoarse).tv_nsec;
        words[7] = u64::try_from(tick).expect("below a second") << 32;
        let paces = [sources, sources, replies, sources, sources];
        for (pair, pace) in words[8..18].chunks_exact_mut(2).zip(paces) {
            pair.copy_from_slice(&pace.0);
        }
        let all_ports = 7;
        words[18] = u64::from(u32::from_le_bytes(SERVER.octets())) | all_ports << 32;
        let (first, second) = SERVER_V6.split_at(8);
        words[34] = word(first);
        words[35] = word(second);
        words[36] = all_ports;
        Self(words)
    }

    /// The table's one value.
    pub(super) fn words(&self) -> [u64; WORDS] {
        self.0
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("half of sixteen bytes"))
}
