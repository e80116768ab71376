//! `tools/up`, in a clone that is built already.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on panics")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{eventually, free_port, request};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_mins(1);

/// What of the repository the script uses; in the place of cargo, which has nothing to build, a program that does
/// nothing.
fn clone(dir: &Path) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["tools", "volume"] {
        assert!(Command::new("cp").arg("-a").args([&repository.join(part), dir]).status().unwrap().success());
    }
    for made in ["bin", "target/release"] {
        fs::create_dir_all(dir.join(made)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_davkv"), dir.join("target/release/davkv")).unwrap();
    fs::write(dir.join("bin/cargo"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.join("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    // the volumes run as another user
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A running `tools/up`.
struct Up {
    child: Child,
    port: u16,
}

impl Up {
    fn start(clone: &Path, port: u16) -> Self {
        let path = format!("{}:{}", clone.join("bin").display(), std::env::var("PATH").unwrap());
        let log = fs::File::create(clone.join(format!("{port}.log"))).unwrap();
        let child = Command::new(clone.join("tools/up"))
            .env("PORT", port.to_string())
            .env("PATH", path)
            .env_remove("CARGO_TARGET_DIR")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut up = Self { child, port };
        let said = || fs::read_to_string(clone.join(format!("{port}.log"))).unwrap();
        eventually("it is up", PATIENCE, || {
            assert!(up.child.try_wait().unwrap().is_none(), "{}", said());
            said().contains("davkv is up")
        });
        up
    }

    fn status(&self, method: &str, key: &str) -> u16 {
        request(&format!("127.0.0.1:{}", self.port), method, key, &[], b"").status
    }

    fn put(&self, key: &str) {
        let answer = request(&format!("127.0.0.1:{}", self.port), "PUT", key, &[], b"value");
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.end();
        }
    }
}

/// A port which is free with the four after it.
fn five_ports() -> u16 {
    loop {
        let port = free_port();
        if (1..5).all(|n| std::net::TcpListener::bind(("127.0.0.1", port + n)).is_ok()) {
            // further ones lie behind them
            for _ in 0..4 {
                free_port();
            }
            return port;
        }
    }
}

#[test]
fn it_starts_on_nothing_and_on_what_it_left_and_another_one_beside_it() {
    let tempdir = tempfile::tempdir().unwrap();
    clone(tempdir.path());
    let (one, other) = (five_ports(), five_ports());
    let first = Up::start(tempdir.path(), one);
    first.put("/first");
    let second = Up::start(tempdir.path(), other);
    second.put("/second");
    assert_eq!((first.status("GET", "/first"), first.status("GET", "/second")), (302, 404));
    assert_eq!((second.status("GET", "/first"), second.status("GET", "/second")), (404, 302));
    first.stop();
    assert_eq!(second.status("GET", "/second"), 302, "it runs on");
    let first = Up::start(tempdir.path(), one);
    assert_eq!((first.status("GET", "/first"), first.status("GET", "/second")), (302, 404));
}
