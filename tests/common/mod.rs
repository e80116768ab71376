//! Shared parts of the integration tests: real volumes ([`Volume`]), the real master ([`Master`]), both
//! together ([`Cluster`]), volumes that misbehave ([`Fake`]), and a client that sends any bytes ([`http`]).
//!
//! Each value has directories and ports that no other uses, and cleans up when it is dropped. Processes are
//! ended by their ids.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test crate compiles all of this and uses a part"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::must_use_candidate,
    clippy::missing_panics_doc,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod disk;
mod fake;
mod gate;
pub mod http;
mod master;
mod process;
mod random;
mod volume;

use std::path::Path;
use std::time::{Duration, Instant};

pub use disk::{Disk, Frozen};
pub use fake::{Fake, Recorded, Reply};
pub use gate::{Gate, Order, Stage};
pub use http::{Response, request, request_from};
pub use master::Master;
pub use process::{free_port, may_open};
pub use random::Random;
pub use volume::{MARKER, OWNER_FILE, Volume, template};

/// Polls until `condition` holds, and panics with `what` at the deadline. No other code in the tests sleeps.
#[track_caller]
pub fn eventually(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "after {deadline:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Volumes and a master over them, in a temporary directory.
pub struct Cluster {
    // fields drop in this order: the master first, the directory last
    pub master: Master,
    pub volumes: Vec<Volume>,
    pub tempdir: tempfile::TempDir,
}

impl Cluster {
    /// Starts `volumes` volumes, and a master with `flags` in addition to `--db` and `--volumes`.
    pub fn new(volumes: usize, flags: &[&str]) -> Self {
        Self::new_in(&std::env::temp_dir(), volumes, flags)
    }

    /// As [`Cluster::new`], in a temporary directory below `parent`.
    pub fn new_in(parent: &Path, volumes: usize, flags: &[&str]) -> Self {
        let tempdir = tempfile::tempdir_in(parent).unwrap();
        let volumes =
            (1..=volumes).map(|n| Volume::start(&tempdir.path().join(format!("volume{n}")))).collect();
        Self::over(volumes, tempdir, flags)
    }

    /// Starts a master over these volumes.
    pub fn over(volumes: Vec<Volume>, tempdir: tempfile::TempDir, flags: &[&str]) -> Self {
        let addresses: Vec<_> = volumes.iter().map(Volume::addr).collect();
        let master = Master::start(&tempdir.path().join("db"), &addresses, flags);
        Self { master, volumes, tempdir }
    }

    /// Sends the master a request and returns its answer, whatever its status.
    pub fn request(&self, method: &str, target: &str, body: &[u8]) -> Response {
        request(&self.master.addr(), method, target, &[], body)
    }

    /// GETs a key, follows the redirect, and returns the volume's answer, or the master's if it isn't a
    /// redirect.
    pub fn fetch(&self, target: &str) -> Response {
        let answer = self.request("GET", target, b"");
        match answer.header("location") {
            Some(location) if answer.status == 302 => http::get_url(location),
            _ => answer,
        }
    }
}
