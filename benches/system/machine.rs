//! The machine on which the figures are measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process;
use crate::settings::Result;

/// Cores, memory, processor, kernel, nginx, and the file system below a directory; one line.
pub(crate) fn describe(directory: &Path) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let kib = field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let gib = kib.map_or_else(|| "?".to_owned(), |kib| (kib >> 20).to_string());
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let version = process::nginx().arg("-v").output().map(|output| output.stderr).unwrap_or_default();
    let version = String::from_utf8_lossy(&version).trim().replace('/', " ");
    let nginx = version.rsplit(": ").next().filter(|version| !version.is_empty()).unwrap_or("no nginx");
    let file_system = file_system(directory)?;
    let kernel = kernel.trim();
    Ok(format!(
        "{cores} cores, {gib} GiB, {cpu}, Linux {kernel}, {nginx}, volumes and index on {file_system}"
    ))
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// The type of the file system of a directory; of ext4, also whether it lacks a journal.
fn file_system(directory: &Path) -> Result<String> {
    let output = Command::new("findmnt").args(["-nro", "FSTYPE,SOURCE", "-T"]).arg(directory).output()?;
    let output = String::from_utf8(output.stdout)?;
    let (kind, device) = output.trim().split_once(' ').unwrap_or(("an unknown file system", ""));
    // the kernel's journals are called NAME-INODE, after the device
    let device = fs::canonicalize(device).unwrap_or_default();
    let device = device.file_name().map(|name| name.to_string_lossy().into_owned() + "-");
    let mut journals = fs::read_dir("/proc/fs/jbd2").into_iter().flatten().flatten();
    let journal = journals.any(|entry| {
        device.as_ref().is_some_and(|device| entry.file_name().to_string_lossy().starts_with(device))
    });
    Ok(format!("{kind}{}", if kind != "ext4" || journal { "" } else { " without a journal" }))
}

/// Checks that the directory's file system can hold so many more files. A tmpfs usually has one inode for
/// every two pages of memory.
pub(crate) fn check_room(directory: &Path, files: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(directory)?;
    if stat.f_files != 0 && stat.f_favail < files {
        let (directory, free) = (directory.display(), stat.f_favail);
        let remedy = "mount -t tmpfs -o nr_inodes=0 tmpfs DIR, and give --volumes-on DIR";
        return Err(format!("{files} files are needed, and {directory} has room for {free}: {remedy}").into());
    }
    Ok(())
}
