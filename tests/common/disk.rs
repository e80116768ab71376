//! File systems for one test each, and what a power cut leaves of them. They need root.
//!
//! A cut is a copy of the image under a mounted file system. The copy holds everything that the file system
//! has sent to the device, in order, and nothing of the page cache. (A real device may also lose what it was
//! not told to flush.) Nothing may write during the copy. Either the programs have ended, and the cut falls
//! between two steps that they waited for; or the file system that holds the image is frozen, and the cut
//! falls at an arbitrary moment.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::eventually;

/// How long the file system may keep writing after its processes have ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file system that stays mounted until this value is dropped.
pub struct Disk {
    dir: PathBuf,
    options: String,
    /// The image under the file system; unused for a tmpfs.
    image: PathBuf,
    /// Whether it isn't mounted, and `dir` is a bare mount point.
    is_away: Cell<bool>,
}

/// A disk on which writes block until this value is dropped.
pub struct Frozen<'a>(&'a Disk);

impl Disk {
    /// Mounts a tmpfs of the given size (as `mount` takes it) on `dir`, which is created. Returns `None`, and
    /// prints the reason, where that is impossible.
    pub fn tmpfs(dir: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let options = format!("size={size}");
        let mounted = mount("tmpfs", Path::new("tmpfs"), dir, &options);
        or_skip(mounted).map(|()| Self::new(Path::new("tmpfs"), dir, &options))
    }

    /// Mounts a fresh ext4 on `dir`, which is created, in a new sparse file `image`. `options` are `mount`'s,
    /// separated by commas. Returns `None`, and prints the reason, where that is impossible.
    pub fn ext4(dir: &Path, image: &Path, megabytes: u64, options: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        File::create_new(image).unwrap().set_len(megabytes << 20).unwrap();
        // so that the kernel has nothing to initialise while the test runs
        let eager = "lazy_itable_init=0,lazy_journal_init=0";
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", eager]).arg(image));
        let mounted = made.and_then(|()| mount_ext4(image, dir, options));
        or_skip(mounted).map(|()| Self::new(image, dir, options))
    }

    fn new(image: &Path, dir: &Path, options: &str) -> Self {
        Self {
            dir: dir.to_owned(),
            options: options.to_owned(),
            image: image.to_owned(),
            is_away: Cell::new(false),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes out all dirty pages, as the kernel does by itself after half a minute.
    pub fn settle(&self) {
        rustix::fs::syncfs(File::open(&self.dir).unwrap()).unwrap();
    }

    /// Commits the journal (the names of all files, and what the mount options tie to them), as ext4 does by
    /// itself every five seconds and at every fsync.
    pub fn commit_journal(&self) {
        File::create(self.dir.join(".fsynced")).unwrap().sync_all().unwrap();
    }

    /// Blocks all writes to this file system. File systems on images on it thereby stop at this instant,
    /// perhaps in the middle of an fsync.
    pub fn freeze(&self) -> Frozen<'_> {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.dir)).unwrap();
        Frozen(self)
    }

    /// Copies the image as a power cut at this moment would leave it.
    pub fn cut(&self, copy: &Path) {
        eventually("the file system has stopped writing", PATIENCE, || {
            copy_sparse(&self.image, copy);
            // if two reads agree, nothing was written between them
            fs::read(&self.image).unwrap() == fs::read(copy).unwrap()
        });
    }

    /// Leaves the bare mount point, from one moment to the next, also to programs that have files open on the disk.
    pub fn vanish(&self) {
        run(Command::new("umount").arg("--lazy").arg(&self.dir)).unwrap();
        self.is_away.set(true);
    }

    /// Restores power: what the cut left is on the disk, in place of the old contents. No file on it may be open. It is
    /// mounted, unless it was away and stays so.
    pub fn restore(&self, copy: &Path, stays_away: bool) {
        if !self.is_away.replace(stays_away) {
            run(Command::new("umount").arg(&self.dir)).unwrap();
        }
        eventually("the kernel has let the image go", PATIENCE, || !is_used(&self.image));
        copy_sparse(copy, &self.image);
        if !stays_away {
            mount_ext4(&self.image, &self.dir, &self.options).unwrap();
        }
    }

    /// Mounts the disk that was away.
    pub fn return_again(&self) {
        assert!(self.is_away.replace(false), "it isn't away");
        mount_ext4(&self.image, &self.dir, &self.options).unwrap();
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0.dir)).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_away.get() {
            return;
        }
        // lazily, because a process that is about to end may still have a file open there
        let unmounted = run(Command::new("umount").arg("--lazy").arg(&self.dir));
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

/// Whether a loop device is on the image.
fn is_used(image: &Path) -> bool {
    let blocks = fs::read_dir("/sys/block").unwrap();
    let backing = blocks.map(|block| block.unwrap().path().join("loop/backing_file"));
    backing.filter_map(|file| fs::read_to_string(file).ok()).any(|file| Path::new(file.trim_end()) == image)
}

fn copy_sparse(from: &Path, to: &Path) {
    run(Command::new("cp").arg("--sparse=always").args([from, to])).unwrap();
}

fn mount_ext4(image: &Path, dir: &Path, options: &str) -> Result<(), String> {
    // the loop device is released at unmount
    mount("ext4", image, dir, format!("loop,{options}").trim_end_matches(','))
}

fn mount(kind: &str, what: &Path, dir: &Path, options: &str) -> Result<(), String> {
    run(Command::new("mount").args(["-t", kind, "-o", options]).args([what, dir]))
}

fn or_skip(mounted: Result<(), String>) -> Option<()> {
    mounted.map_err(|reason| println!("skipped, cannot mount a file system: {reason}")).ok()
}

/// Runs a command to its end; on failure, returns its error output.
fn run(command: &mut Command) -> Result<(), String> {
    // tools that only root needs may lie outside the user's PATH
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.env("PATH", path).output().map_err(|error| format!("{program}: {error}"))?;
    let complaint = || format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    output.status.success().then_some(()).ok_or_else(complaint)
}
