//! Processes, addressed by their ids, and free ports.

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};

/// A port of 127.0.0.1 on which nothing listens.
///
/// It lies below the ports that the kernel gives to outgoing connections (and to port 0), so that no
/// connection takes it while its server is down between a kill and a restart. Test programs that run at the
/// same time start their search at different ports.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id().wrapping_mul(7919) % u32::from(COUNT)).unwrap();
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(n < COUNT, "no port is free");
        let port = FIRST + (start + n) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Raises this process's limit on descriptors to allow so many; false, with a line that says so, if the system refuses.
pub fn may_open(descriptors: u64) -> bool {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let may = limit.maximum.is_none_or(|maximum| maximum >= descriptors);
    if !may {
        eprintln!("skipped: this needs {descriptors} descriptors, and the hard limit is lower (ulimit -Hn)");
    }
    may
}

/// Sends a signal. It is fine if the process is gone.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot signal {pid:?}: {error}"),
    }
}

/// The children of a process, from /proc; for an nginx, its workers.
pub fn children(parent: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let Some(pid) = entry.unwrap().file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // PID (NAME) STATE PARENT …; the name may hold spaces, and the process may be gone by now
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let after_name = stat.rsplit(") ").next().unwrap();
        if after_name.split(' ').nth(1) == Some(&parent.to_string()) {
            children.push(pid);
        }
    }
    children
}

/// Whether a process exists and is not a zombie.
pub fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with(['Z', 'X']))
}
