//! The command line and the environment.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::common::http::request;
use crate::common::{Volume, eventually, free_port};
use crate::rig::{PATIENCE, cluster, refused};

/// A master that may fail to start.
struct Program {
    child: Child,
    output: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Program {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_davkv"));
        command.args(arguments).envs(environment.iter().copied());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let output = Arc::<Mutex<String>>::default();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = std::thread::spawn({
            let output = Arc::clone(&output);
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    *output.lock().unwrap() += &(line + "\n");
                }
            }
        });
        Self { child, output, reader: Some(reader) }
    }

    fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Waits for its end; returns its exit code and all its output.
    fn end(mut self) -> (Option<i32>, String) {
        let mut status = None;
        eventually("the program has ended", PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.reader.take().unwrap().join().unwrap();
        (status.unwrap().code(), self.output())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // it may have ended already
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}

/// Asserts that a master exits with this status and one line that contains these words.
#[track_caller]
pub(crate) fn fails(arguments: &[&str], environment: &[(&str, &str)], status: i32, words: &[&str]) {
    let (ended, output) = Program::start(arguments, environment).end();
    assert_eq!(ended, Some(status), "{arguments:?}: {output}");
    assert_eq!(output.lines().count(), 1, "{arguments:?}: {output}");
    for word in words {
        assert!(output.contains(word), "{arguments:?}: no {word} in {output}");
    }
}

#[test]
fn an_invalid_flag_is_reported_in_one_line_with_a_hint() {
    let tempdir = tempfile::tempdir().unwrap();
    let db = tempdir.path().join("db");
    let db = db.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 22] = [
        (&[], &["--db", "--volumes"]),
        (&["--volumes", "a:1,b:1,c:1"], &["type --db"]),
        (&["--db", db], &["type --volumes"]),
        (&["--db", db, "--volumes"], &["--volumes"]),
        (&["--db", db, "--volumes", ""], &["--volumes", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,,b:1"], &["--volumes", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,http://b:1,c:1"], &["http://b:1", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,b:65536,c:1"], &["b:65536", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,b:1/sv00,c:1"], &["b:1/sv00", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,b:1\r\n,c:1"], &["HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1,b:1"], &["b:1", "twice", "once"]),
        (&["--db", db, "--volumes", "a:1,b:1"], &["--replicas 3", "--replicas 1 to 2"]),
        (
            &["--db", db, "--volumes", "a:1,b:1,c:1", "--replicas", "0"],
            &["--replicas 0", "--replicas 1 to 3"],
        ),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--subvolumes", "0"], &["--subvolumes", "1..=256"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--subvolumes", "257"], &["--subvolumes", "1..=256"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--voltimeout", "soon"], &["--voltimeout", "1s"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--voltimeout", "0s"], &["--voltimeout", "1s"]),
        (
            &["--db", db, "--volumes", "a:1,b:1,c:1", "--clienttimeout", "1m"],
            &["--clienttimeout 1m", "--streamtimeout 10s", "less than 60s", "--clienttimeout 49s"],
        ),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--upload-expiry", "soon"], &["--upload-expiry", "0s"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--port", "65536"], &["--port", "65535"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--fallback", "x/y"], &["--fallback", "HOST:PORT"]),
        (&["--db", db, "--volumes", "a:1,b:1,c:1", "--volume"], &["--volume", "--volumes"]),
    ];
    for (arguments, words) in cases {
        fails(arguments, &[], 2, words);
    }
    assert!(!Path::new(db).exists());
}

#[test]
fn an_invalid_environment_variable_is_reported_in_one_line_with_a_hint() {
    let good = [("DAVKV_DB", "db"), ("DAVKV_VOLUMES", "a:1,b:1,c:1")];
    for (name, value, words) in [
        ("DAVKV_VOLUMES", "a:1,b", ["--replicas", "--volumes"]),
        ("DAVKV_REPLICAS", "many", ["--replicas", "many"]),
        ("DAVKV_VOLTIMEOUT", "soon", ["--voltimeout", "1s"]),
        ("DAVKV_PROTECT", "perhaps", ["--protect", "true"]),
    ] {
        fails(&[], &[&good[..], &[(name, value)]].concat(), 2, &words);
    }
}

/// The required flags for an index at `db`, with volumes that are never contacted.
pub(crate) fn flags<'a>(db: &'a Path, port: &'a str) -> [&'a str; 8] {
    let db = db.to_str().unwrap();
    ["--db", db, "--volumes", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", "--port", port, "--address", "127.0.0.1"]
}

#[test]
fn an_index_in_use_is_reported_in_one_line() {
    let cluster = cluster();
    let port = free_port().to_string();
    fails(&flags(&cluster.tempdir.path().join("db"), &port), &[], 1, &["db", "in use"]);
}

#[test]
fn an_index_without_a_parent_directory_is_reported_in_one_line() {
    let tempdir = tempfile::tempdir().unwrap();
    fails(&flags(&tempdir.path().join("none/db"), "1"), &[], 1, &["none/db", "doesn't exist"]);
}

#[test]
fn a_path_that_is_not_an_index_is_reported_in_one_line() {
    let tempdir = tempfile::tempdir().unwrap();
    let (file, directory) = (tempdir.path().join("file"), tempdir.path().join("directory"));
    fs::write(&file, "text").unwrap();
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("photo.jpeg"), "jpeg").unwrap();
    fails(&flags(&file, "1"), &[], 1, &["file", "not an index"]);
    fails(&flags(&directory, "1"), &[], 1, &["directory", "not an index"]);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn a_port_in_use_is_reported_in_one_line() {
    let cluster = cluster();
    let addr = cluster.master.addr();
    let port = addr.rsplit(':').next().unwrap();
    // a new index wants a volume that answers
    let volume = Volume::start(&cluster.tempdir.path().join("another"));
    let (db, volume) = (cluster.tempdir.path().join("other"), volume.addr());
    let mut flags = flags(&db, port).to_vec();
    flags[3] = &volume;
    fails(&[&flags[..], &["--replicas", "1"]].concat(), &[], 1, &[port, "--port"]);
}

#[test]
fn help_and_version_are_printed_to_standard_output() {
    for flag in ["--help", "--version"] {
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_davkv")).arg(flag).stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(text.contains("davkv"), "{text}");
    }
}

#[test]
fn flags_can_come_from_the_environment() {
    let tempdir = tempfile::tempdir().unwrap();
    let volume = Volume::start(&tempdir.path().join("volume"));
    let (db, port) = (tempdir.path().join("db"), free_port().to_string());
    let environment = [
        ("DAVKV_DB", db.to_str().unwrap()),
        ("DAVKV_VOLUMES", &volume.addr()),
        ("DAVKV_ADDRESS", "127.0.0.1"),
        ("DAVKV_PORT", &port),
        ("DAVKV_REPLICAS", "1"),
        ("DAVKV_SUBVOLUMES", "1"),
        ("DAVKV_PROTECT", "true"),
        ("DAVKV_FALLBACK", "elsewhere:1"),
        ("DAVKV_MD5SUM", "false"),
    ];
    let program = Program::start(&[], &environment);
    let addr = format!("127.0.0.1:{port}");
    eventually("the master listens", PATIENCE, || program.output().contains(&format!("listening on {addr}")));
    assert_eq!(request(&addr, "PUT", "/key", &[], b"value").status, 201);
    let answer = request(&addr, "GET", "/key", &[], b"");
    assert_eq!(answer.header("key-volumes"), Some(&*volume.addr()));
    assert_eq!(answer.header("content-md5"), None);
    refused(&request(&addr, "DELETE", "/key", &[], b""), 403);
    let answer = request(&addr, "GET", "/none", &[], b"");
    assert_eq!(answer.header("location"), Some("http://elsewhere:1/none"));
}

#[test]
fn a_flag_overrides_the_environment() {
    let tempdir = tempfile::tempdir().unwrap();
    let db = tempdir.path().join("none/db");
    fails(&flags(&db, "1"), &[("DAVKV_DB", "/other"), ("DAVKV_REPLICAS", "3")], 1, &["none/db"]);
}
