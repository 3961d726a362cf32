//! The bench's own kernel programs: loading them, running one on a packet, and its tables.

use aya::maps::{Array, MapError};
use aya::programs::{ProgramError, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};

use crate::suite::Failure;

/// Built by `program/build.sh`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../program/net.bpf.o");

/// Sessions over which random packets are spread.
pub(super) const SESSIONS: u32 = 4_096;
/// Tokens of a session.
pub(super) const WINDOW: u32 = 1_024;

/// What `XDP_ABORTED` and the others are as numbers. Source: `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Action {
    Drop = 1,
    Pass = 2,
    Transmit = 3,
}

/// A loaded object.
pub(super) struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    /// Loads the object with these of its programs, and with room for so many tokens.
    ///
    /// Errors: [`Failure::Skipped`] where the kernel refuses.
    pub(super) fn open(names: &[&str], tokens: u32) -> Result<Self, Failure> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("GENERATIONS", SESSIONS / 4)
            .map_max_entries("TOKENS", tokens)
            .load(OBJECT)
            .map_err(|error| Failure::Skipped(format!("no kernel programs: {error}")))?;
        for name in names {
            let loaded = xdp_mut(&mut ebpf, name).load();
            loaded.map_err(|error| Failure::Skipped(refusal(name, &error)))?;
        }
        Ok(Self { ebpf })
    }

    /// The program of this name, to attach it.
    pub(super) fn xdp_mut(&mut self, name: &str) -> &mut Xdp {
        xdp_mut(&mut self.ebpf, name)
    }

    /// The program of this name, to run it.
    pub(super) fn xdp(&self, name: &str) -> &Xdp {
        let program = self.ebpf.program(name).expect("the object has this program");
        program.try_into().expect("all of its programs are for XDP")
    }

    /// Runs a program on a packet so many times and returns its last answer.
    ///
    /// Errors: the kernel's.
    pub(super) fn run(&self, name: &str, packet: &[u8], repeat: u32) -> Result<u32, Failure> {
        let options = TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::new() };
        let result = self.xdp(name).test_run(options);
        let result = result.map_err(|error| Failure::machine(format!("run {name}"), error))?;
        Ok(result.return_value)
    }

    /// Writes one value of a table.
    ///
    /// Errors: the kernel's.
    pub(super) fn set<T: Pod>(&mut self, table: &str, place: u32, value: T) -> Result<(), Failure> {
        let failed = |error: MapError| Failure::machine(format!("write {table}"), error);
        let map = self.ebpf.map_mut(table).expect("the object has this table");
        let mut array: Array<_, T> = Array::try_from(map).map_err(failed)?;
        array.set(place, value, 0).map_err(failed)
    }

    /// Writes the values of a table from its first place on.
    ///
    /// Errors: the kernel's.
    pub(super) fn fill<T: Pod>(
        &mut self,
        table: &str,
        values: impl IntoIterator<Item = (u32, T)>,
    ) -> Result<(), Failure> {
        let failed = |error: MapError| Failure::machine(format!("write {table}"), error);
        let map = self.ebpf.map_mut(table).expect("the object has this table");
        let mut array: Array<_, T> = Array::try_from(map).map_err(failed)?;
        for (place, value) in values {
            array.set(place, value, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Reads one value of a table.
    ///
    /// Errors: the kernel's.
    pub(super) fn get<T: Pod>(&self, table: &str, place: u32) -> Result<T, Failure> {
        let failed = |error: MapError| Failure::machine(format!("read {table}"), error);
        let map = self.ebpf.map(table).expect("the object has this table");
        let array: Array<_, T> = Array::try_from(map).map_err(failed)?;
        array.get(&place, 0).map_err(failed)
    }

    /// The table of this name, to put sockets into it.
    pub(super) fn map_mut(&mut self, table: &str) -> &mut aya::maps::Map {
        self.ebpf.map_mut(table).expect("the object has this table")
    }
}

fn xdp_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    let program = ebpf.program_mut(name).expect("the object has this program");
    program.try_into().expect("all of its programs are for XDP")
}

/// Why the kernel does not take a program: its answer, and the last thing its verifier said.
fn refusal(name: &str, error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let last = log.lines().rfind(|line| !line.trim().is_empty() && !line.contains("insn"));
            format!("no program {name}: {io_error} ({})", last.unwrap_or("no log").trim())
        }
        other => format!("no program {name}: {other}"),
    }
}
