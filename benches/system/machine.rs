//! The machine on which the figures are measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process;
use crate::settings::Result;

/// Cores, memory, processor, kernel, nginx, and the file system below a directory; one line.
pub(crate) fn describe(directory: &Path) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let gib = field("/proc/meminfo", "MemTotal")?.trim_end_matches(" kB").parse::<u64>()? >> 20;
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|_| "unknown processor".to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // nginx version: nginx/1.22.1
    let nginx = String::from_utf8(process::command("nginx").arg("-v").output()?.stderr)?;
    let nginx = nginx.trim().trim_start_matches("nginx version: ").replace('/', " ");
    let file_systems = Command::new("findmnt").args(["-nro", "FSTYPE", "-T"]).arg(directory).output()?;
    // one line for each file system that is mounted there
    let file_systems = String::from_utf8(file_systems.stdout)?;
    let place = format!("{}, {}", directory.display(), file_systems.lines().last().unwrap_or("?"));
    let kernel = kernel.trim();
    Ok(format!("{cores} cores, {gib} GiB, {cpu}, Linux {kernel}, {nginx}, volumes and index in {place}"))
}

/// The value of a line `NAME: VALUE`, the first of that name.
fn field(file: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    Ok(value.ok_or_else(|| format!("{file} has no {name}"))?.trim().to_owned())
}
