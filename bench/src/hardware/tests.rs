//! Parsers against samples of what kernels print, and one reading of this machine.

use super::*;

#[test]
fn dates_are_those_of_the_calendar() {
    let expected = [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (951_868_799, "2000-02-29T23:59:59Z"),
        (951_868_800, "2000-03-01T00:00:00Z"),
        (1_709_164_800, "2024-02-29T00:00:00Z"),
        (1_767_225_599, "2025-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ];
    for (seconds, text) in expected {
        assert_eq!(utc(seconds), text);
    }
}

#[test]
fn memory_is_read_in_bytes_and_lines_of_other_units_are_left_out() {
    let text =
        "MemTotal:       24684096 kB\nMemAvailable:   20000000 kB\nHugePages_Total:       3\n";
    let memory = meminfo(text);
    assert_eq!(memory["MemTotal"], 24_684_096 * 1024);
    assert_eq!(memory["MemAvailable"], 20_000_000 * 1024);
    assert_eq!(memory.len(), 2);
}

#[test]
fn the_distribution_is_its_pretty_name() {
    let text = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n";
    assert_eq!(os_name(text).as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
    assert_eq!(os_name("NAME=x\n"), None);
}

#[test]
fn this_machine_is_read_and_keeps_its_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::read(folder.path());
    assert!(machine.cpu.logical >= 1);
    assert!(machine.cpu.usable >= 1);
    assert!(machine.memory_bytes.is_some_and(|bytes| bytes > 0));
    assert!(machine.kernel.is_some());
    assert_eq!(machine.fingerprint.len(), 16);
    assert!(machine.disk.sync_us_p50.is_some_and(|micros| micros > 0.0));
    assert!(machine.disk.sync_us_p99 >= machine.disk.sync_us_p50);
    assert_eq!(Machine::read(folder.path()).fingerprint, machine.fingerprint);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn doubtful_circumstances_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::read(folder.path());
    machine.build.opt_level = "3".to_owned();
    machine.load_average = Some(0.0);
    machine.cpu.governor = Some("performance".to_owned());
    machine.disk.file_system = Some("ext4".to_owned());
    assert_eq!(warnings(&machine, Some(0.0)), Vec::<String>::new());
    machine.build.opt_level = "1".to_owned();
    machine.load_average = Some(f64::from(machine.cpu.usable) + 0.25);
    machine.cpu.governor = Some("powersave".to_owned());
    machine.disk.file_system = Some("tmpfs".to_owned());
    let warnings = warnings(&machine, Some(0.05));
    let words = ["opt-level 1", "load", "hypervisor took 5.0 %", "powersave", "tmpfs"];
    assert_eq!(warnings.len(), words.len());
    for (warning, word) in warnings.iter().zip(words) {
        assert!(warning.contains(word), "{warning}");
    }
}
