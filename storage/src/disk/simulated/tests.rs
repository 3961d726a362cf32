//! What the simulation promises to the tests that stand on it.

use super::*;

fn write(disk: &mut Simulated, offset: u64, byte: u8, bytes: usize) {
    disk.submit(Write { ticket: offset, segment: 0, offset, bytes: vec![byte; bytes].into() });
}

fn complete(disk: &mut Simulated) -> Vec<io::Result<()>> {
    let mut done = Vec::new();
    disk.complete(&mut done);
    done.into_iter().map(|completion| completion.result).collect()
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_tears_the_rest_at_sectors() {
    let mut disk = Simulated::new(1);
    disk.create(0, 1 << 20).unwrap();
    write(&mut disk, 0, 1, 4096);
    assert!(complete(&mut disk)[0].is_ok());
    write(&mut disk, 4096, 2, 1 << 16);
    write(&mut disk, 0, 3, 2048);
    let disk = disk.crash();
    let image = disk.image(0).unwrap();
    assert!(image[2048..4096].iter().all(|byte| *byte == 1));
    let mut seen = BTreeSet::new();
    for (sector, bytes) in image.chunks(SECTOR_BYTES).enumerate() {
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a sector is kept or lost whole");
        seen.insert((sector < 4, bytes[0]));
    }
    assert!(seen.is_superset(&[(true, 1), (true, 3), (false, 0), (false, 2)].into()));
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let mut disk = Simulated::new(seed);
        disk.create(0, 1 << 16).unwrap();
        write(&mut disk, 0, 9, 1 << 15);
        let epoch = disk.epoch().unwrap();
        (disk.crash().image(0).unwrap(), epoch)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_restart_keeps_the_cache_and_a_failed_sync_loses_it_later() {
    let mut disk = Simulated::new(1);
    disk.create(0, 8192).unwrap();
    disk.fail_at(2, Fault::Error(5));
    write(&mut disk, 0, 7, 4096);
    let results = complete(&mut disk);
    assert_eq!(results[0].as_ref().unwrap_err().raw_os_error(), Some(5));
    let mut disk = disk.restart();
    assert_eq!(disk.image(0).unwrap()[..4096], [7; 4096]);
    // A later sync that succeeds saves nothing of it.
    write(&mut disk, 4096, 8, 512);
    assert!(complete(&mut disk)[0].is_ok());
    let image = disk.crash().image(0).unwrap();
    assert_eq!((&image[..4096], image[4096]), (&[0; 4096][..], 8));
}

#[test]
fn faults_strike_their_call_once() {
    let mut disk = Simulated::new(1);
    disk.create(0, 1 << 16).unwrap();
    assert_eq!(disk.calls(), 1);
    disk.fail_at(1, Fault::Short);
    write(&mut disk, 0, 7, 4096);
    write(&mut disk, 4096, 7, 4096);
    let results = complete(&mut disk);
    assert_eq!(results[0].as_ref().unwrap_err().kind(), io::ErrorKind::WriteZero);
    assert!(results[1].is_err(), "no write is acknowledged beside a failed one");
    assert_eq!(disk.image(0).unwrap()[2048..4096], [0; 2048]);
    write(&mut disk, 0, 7, 4096);
    assert!(complete(&mut disk)[0].is_ok());
    disk.fail_at(disk.calls(), Fault::Error(28));
    assert_eq!(disk.create(1, 4096).unwrap_err().raw_os_error(), Some(28));
    disk.limit(1 << 16);
    assert_eq!(disk.create(1, 4096).unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.limit(u64::MAX);
    disk.create(1, 4096).unwrap();
}

#[test]
fn a_handle_dies_with_its_process_and_the_lock_is_free_again() {
    let mut first = Simulated::new(1);
    first.lock().unwrap();
    let mut second = first.clone();
    assert_eq!(second.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let mut next = first.restart();
    next.lock().unwrap();
    assert!(first.segments().is_err());
    drop(first);
    assert_eq!(next.clone().lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let again = next.clone();
    drop(next);
    again.clone().lock().unwrap();
}
