//! A small ext4 of its own on a loop device: it can be filled, and its power can be cut.

use crate::process::command;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// Calls `FS_IOC_SHUTDOWN` with the flag for: nothing is flushed, not even the journal.
/// Source: Linux, `include/uapi/linux/fs.h`.
const SHUTDOWN: &str = r#"open(my $folder, "<", $ARGV[0]) or die "$!\n";
my $flags = pack("L", 2);
ioctl($folder, 0x8004587d, $flags) or die "$!\n";"#;

/// What becomes of direct writes.
#[derive(Clone, Copy, Debug)]
pub enum Writes {
    /// They reach the image at once: a cut loses what was under way.
    Direct,
    /// They wait in memory for a sync: a cut loses all that was not synced.
    Cached,
}

/// The disk; unmounted and gone when dropped.
pub struct Disk {
    folder: PathBuf,
    image: PathBuf,
    /// Whether it is mounted now.
    mounted: bool,
    _image_folder: TempDir,
}

impl Disk {
    /// Makes and mounts a file system of so many MiB on a folder, made if need be.
    ///
    /// Errors: why this machine or user cannot have one.
    pub fn create(folder: &Path, mib: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting a file system needs root".to_owned());
        }
        run(command("perl").args(["-e", "1"]))?;
        let image_folder = TempDir::with_prefix("althing-disk-").expect("a temporary folder");
        let image = image_folder.path().join("image");
        let file = File::create(&image).expect("our folder");
        file.set_len(mib << 20).expect("a file with holes");
        // No blocks are kept back: the tests run as root, who could use them.
        run(command("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        fs::create_dir_all(folder).expect("a folder");
        let folder = folder.to_owned();
        let mut disk = Self { folder, image, mounted: false, _image_folder: image_folder };
        disk.mount(Writes::Direct)?;
        Ok(disk)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Mounts it again; the journal is replayed.
    ///
    /// Errors: what `mount` says.
    pub fn mount(&mut self, writes: Writes) -> Result<(), String> {
        let options = match writes {
            Writes::Direct => "loop",
            Writes::Cached => "loop,data=journal",
        };
        run(command("mount").args(["-o", options]).arg(&self.image).arg(&self.folder))?;
        self.mounted = true;
        Ok(())
    }

    /// Takes it away; waits while somebody still has a file open.
    pub fn unmount(&mut self) {
        for _ in 0..100 {
            if run(command("umount").arg(&self.folder)).is_ok() {
                self.mounted = false;
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{} stays busy", self.folder.display());
    }

    /// Ends all writing at once, as a power cut does: what was not synced is lost.
    pub fn cut_power(&self) {
        // No crate wraps the call; perl is part of every Debian.
        let cut = run(command("perl").args(["-e", SHUTDOWN]).arg(&self.folder));
        cut.expect("the file system is shut down");
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.folder).expect("a mounted folder");
        disk.f_bavail * disk.f_frsize
    }

    /// Fills it until so many bytes are free, or a few pages less.
    pub fn fill_to(&self, free: u64) {
        let ballast = File::create(self.folder.join("ballast")).expect("room for a name");
        let mut take = self.free_bytes().saturating_sub(free);
        while take >= 4096 {
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&ballast, flags, 0, take) {
                Ok(()) => return,
                Err(rustix::io::Errno::NOSPC) => take = take * 3 / 4,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Gives the room back.
    pub fn release(&self) {
        fs::remove_file(self.folder.join("ballast")).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a test that failed may have left processes.
            let _ = run(command("umount").arg("-l").arg(&self.folder));
        }
    }
}

fn run(command: &mut std::process::Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
