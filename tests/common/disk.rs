//! Small file systems of their own, and what a loss of power leaves of them. Only root can have them.
//!
//! A cut is a copy of the image under a mounted file system. The page cache above the loop device is not in
//! it; what the file system has sent to the device is, all of it and in order. (A real device may forget
//! what it wasn't told to flush.) Nobody may write meanwhile: either the programs have ended before, and the
//! cut falls between two things that they waited for; or the file system on which the image lies is frozen,
//! and the cut falls wherever it may.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::eventually;

/// How long the file system may go on writing once its processes have ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file system that is mounted until this is dropped.
pub struct Disk {
    dir: PathBuf,
    options: String,
    /// what lies under it; nothing does under a tmpfs
    image: PathBuf,
}

/// A disk to which nothing is written any more, until this is dropped.
pub struct Frozen<'a>(&'a Disk);

impl Disk {
    /// A tmpfs of that size (as `mount` takes it) on `dir`, which is created. `None`, with the reason
    /// printed, where none can be had.
    pub fn tmpfs(dir: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let options = format!("size={size}");
        let mounted = mount("tmpfs", Path::new("tmpfs"), dir, &options);
        or_skip(mounted).map(|()| Self::new(Path::new("tmpfs"), dir, &options))
    }

    /// A fresh ext4 on `dir`, which is created, in a new sparse file `image`. `options` are `mount`'s, by
    /// commas. `None`, with the reason printed, where none can be had.
    pub fn ext4(dir: &Path, image: &Path, megabytes: u64, options: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        File::create_new(image).unwrap().set_len(megabytes << 20).unwrap();
        // nothing is left for the kernel to initialise while the test runs
        let eager = "lazy_itable_init=0,lazy_journal_init=0";
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", eager]).arg(image));
        let mounted = made.and_then(|()| mount_ext4(image, dir, options));
        or_skip(mounted).map(|()| Self::new(image, dir, options))
    }

    fn new(image: &Path, dir: &Path, options: &str) -> Self {
        Self { dir: dir.to_owned(), options: options.to_owned(), image: image.to_owned() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes out all there is. The kernel does so with what is half a minute old: this stands for the wait.
    pub fn settle(&self) {
        rustix::fs::syncfs(File::open(&self.dir).unwrap()).unwrap();
    }

    /// Commits the journal: the names of all files, and what the mount's options tie to them. ext4 does so
    /// every five seconds, and whenever a file is fsynced: this one stands for the wait.
    pub fn commit_journal(&self) {
        File::create(self.dir.join(".fsynced")).unwrap().sync_all().unwrap();
    }

    /// From now on, nothing is written to it: who tries to must wait. What lies on images on it is thereby
    /// stopped at this instant, in the middle of an fsync perhaps.
    pub fn freeze(&self) -> Frozen<'_> {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.dir)).unwrap();
        Frozen(self)
    }

    /// Copies the image as it is: what a power cut at this moment leaves.
    pub fn cut(&self, copy: &Path) {
        eventually("the file system has stopped writing", PATIENCE, || {
            copy_sparse(&self.image, copy);
            // two looks that see the same saw what was there between them
            fs::read(&self.image).unwrap() == fs::read(copy).unwrap()
        });
    }

    /// The power comes back, and what the cut has left is mounted in place of what was there. Nobody may
    /// have a file open.
    pub fn come_back(&self, copy: &Path) {
        run(Command::new("umount").arg(&self.dir)).unwrap();
        copy_sparse(copy, &self.image);
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
        // lazily: what still has a file open there is about to end
        let unmounted = run(Command::new("umount").arg("--lazy").arg(&self.dir));
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

fn copy_sparse(from: &Path, to: &Path) {
    run(Command::new("cp").arg("--sparse=always").args([from, to])).unwrap();
}

fn mount_ext4(image: &Path, dir: &Path, options: &str) -> Result<(), String> {
    // the loop device goes with the mount
    mount("ext4", image, dir, format!("loop,{options}").trim_end_matches(','))
}

fn mount(kind: &str, what: &Path, dir: &Path, options: &str) -> Result<(), String> {
    run(Command::new("mount").args(["-t", kind, "-o", options]).args([what, dir]))
}

fn or_skip(mounted: Result<(), String>) -> Option<()> {
    mounted.map_err(|reason| println!("skipped, there is no file system to be had: {reason}")).ok()
}

/// Runs it to its end. An error is what it complains about.
fn run(command: &mut Command) -> Result<(), String> {
    // what only root needs may lie where only root looks
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.env("PATH", path).output().map_err(|error| format!("{program}: {error}"))?;
    let complaint = || format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    output.status.success().then_some(()).ok_or_else(complaint)
}
