//! The machine that the figures are of.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Failure;

/// Cores, memory, processor, kernel, nginx, and the file system below a directory; one line.
pub(crate) fn describe(directory: &Path) -> Result<String, Failure> {
    let directory = directory.canonicalize().map_err(|error| format!("{}: {error}", directory.display()))?;
    let cores = std::thread::available_parallelism()?;
    let kib = field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let gib = kib.map_or_else(|| "?".to_owned(), |kib| (kib >> 20).to_string());
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{cores} cores, {gib} GiB, {cpu}, Linux {}, {}, volumes and index on {}",
        kernel.trim(),
        nginx(),
        file_system(&directory)?
    ))
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn nginx() -> String {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let said = Command::new("nginx").arg("-v").env("PATH", path).output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
    said.rsplit(": ").next().map_or_else(|| "no nginx".to_owned(), |version| version.trim().replace('/', " "))
}

/// The type of the file system that a directory is on; of ext4, also when it has no journal.
fn file_system(directory: &Path) -> Result<String, Failure> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let lines = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    // the longest path is the nearest
    let mounted = lines.filter(|(path, _)| directory.starts_with(path)).max_by_key(|(path, _)| path.len());
    let kind = mounted.map_or("an unknown file system", |(_, kind)| kind);
    let journalled = kind != "ext4" || has_journal(directory).unwrap_or(true);
    Ok(format!("{kind}{}", if journalled { "" } else { " without a journal" }))
}

/// Whether jbd2 keeps a journal for the device of this directory; `None` where it doesn't tell.
fn has_journal(directory: &Path) -> Option<bool> {
    let device = rustix::fs::stat(directory).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let name = device.file_name()?.to_string_lossy().into_owned();
    // NAME-INODE of the journal
    let mut journals = fs::read_dir("/proc/fs/jbd2").ok()?.filter_map(Result::ok);
    Some(journals.any(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}-"))))
}

/// That the directory's file system can hold so many more files: a memory file system mostly ends at half
/// of them for each page of memory.
pub(crate) fn check_room(directory: &Path, files: u64) -> Result<(), Failure> {
    let stat = rustix::fs::statvfs(directory)?;
    if stat.f_files != 0 && stat.f_favail < files {
        let (directory, free) = (directory.display(), stat.f_favail);
        let remedy = "mount -t tmpfs -o nr_inodes=0 tmpfs DIR, and give --volumes-on DIR";
        return Err(format!("{files} files are needed, and {directory} has room for {free}: {remedy}").into());
    }
    Ok(())
}
