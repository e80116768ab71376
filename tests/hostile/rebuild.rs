//! Volumes that give a rebuild false listings. The rebuild either fails with one line that names the volume
//! and leaves nothing, or reports junk and continues.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use davkv::key::{Key, MAX_GENERATION, Name};

use crate::common::{Fake, Reply, eventually};

const PATIENCE: Duration = Duration::from_mins(1);

/// Upper bound on a rebuild's memory beyond one listing, in bytes.
const MEMORY: u64 = 96 * 1024 * 1024;

/// The directories of the key `hello`, from minikeyvalue's tests: `/5d/41/aGVsbG8=`.
const WAY: [(&str, &str); 2] = [("/", "5d"), ("/5d/", "41")];
const DIRECTORY: &str = "/5d/41/";
const GOOD: &str = r#"{"name":"aGVsbG8=","type":"file","mtime":"Sat, 21 Nov 2026 03:05:00 GMT","size":5}"#;

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
    /// Whether an index, or part of one, is left.
    left: bool,
}

impl Ended {
    /// A count in the summary.
    fn count(&self, name: &str) -> u64 {
        let line = self.out.lines().find(|line| line.starts_with(name));
        let count = line.and_then(|line| line.split_whitespace().nth(1));
        count
            .unwrap_or_else(|| panic!("no {name} in {} {}", self.out, self.err))
            .trim_end_matches(',')
            .parse()
            .unwrap()
    }
}

fn command(db: &Path, volumes: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_davkv-rebuild"));
    command.args(["--replicas", "1", "--subvolumes", "1", "--streamtimeout", "2s"]);
    command.arg("--db").arg(db).args(["--volumes", volumes]).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Rebuilds from that volume, and runs `then` on the index if there is one.
fn rebuild_and(volume: &str, then: impl FnOnce(&Path)) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("db");
    let output = command(&db, volume).output().unwrap();
    if db.exists() {
        then(&db);
    }
    let left = fs::read_dir(&directory).unwrap().count() > 0;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ended =
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr), left };
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
    ended
}

/// Rebuilds from a volume that sends these bytes as the listing of the directory of `hello`.
fn rebuild_from(raw: Vec<u8>) -> (Ended, String) {
    let fake = Fake::with_listings(move |request| {
        let way = WAY.iter().find(|(path, _)| *path == request.target);
        Reply::Raw(match way {
            Some((_, name)) => listing(format!(r#"[{{"name":"{name}","type":"directory"}}]"#)),
            None if request.target == DIRECTORY => raw.clone(),
            None => listing("[]"),
        })
    });
    (rebuild_and(&fake.addr(), |_| {}), fake.addr())
}

fn listing(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Asserts that the rebuild fails with one line that gives this reason, and leaves nothing.
#[track_caller]
fn assert_refused(what: &str, raw: impl Into<Vec<u8>>, reason: &str) {
    let (ended, volume) = rebuild_from(raw.into());
    let Ended { code, out, err, left } = &ended;
    let line = format!("davkv-rebuild: can't list http://{volume}{DIRECTORY}: ");
    let last = err.lines().last().unwrap_or_default();
    assert!(last.starts_with(&line) && last.contains(reason), "{what}: {err}");
    assert_eq!((*code, out.as_str(), *left), (Some(1), "", false), "{what}: {err}");
}

/// Asserts that the entries are reported as `pieces` pieces of junk, one line each, and that the good file is
/// found.
#[track_caller]
fn assert_junk(what: &str, entries: &[u8], pieces: u64) {
    let body = [b"[", entries, b",", GOOD.as_bytes(), b"]"].concat();
    let (ended, _) = rebuild_from(listing(body));
    assert_eq!(ended.code, Some(0), "{what}: {}", ended.err);
    assert_eq!((ended.count("objects"), ended.count("junk")), (1, pieces), "{what}: {}", ended.err);
    let is_told =
        |line: &&str| line.starts_with("junk, left alone: ") && !line.contains(|c: char| c.is_control());
    assert_eq!(ended.err.lines().filter(is_told).count() as u64, pieces, "{what}: {}", ended.err);
}

#[test]
fn invalid_listings_fail_the_rebuild() {
    let nested = |open: &str, close: &str| listing(open.repeat(10_000) + &close.repeat(10_000));
    assert_refused("nested arrays", nested("[", "]"), "not a JSON listing");
    assert_refused("nested objects", nested(r#"[{"name":"#, "}]"), "nested");
    assert_refused(
        "nested in a field",
        listing(format!(r#"[{{"name":"aGVsbG8=","type":"file","size":1,"x":{}"#, "[".repeat(10_000))),
        "nested",
    );
    for body in [
        "{}",
        "null",
        "true",
        "5",
        "\"5d\"",
        "{\"name\":\"a\"}",
        "[1]",
        "[null]",
        "[\"a\"]",
        "[[]]",
        "[]]",
        "[],[]",
        "[[",
        "[{}]",
        "[{},{}]",
        r#"[{"name":"a"}]"#,
        r#"[{"type":"file","size":1}]"#,
        r#"[{"name":null,"type":"file","size":1}]"#,
        r#"[{"name":5,"type":"file","size":1}]"#,
        r#"[{"name":true,"type":"file","size":1}]"#,
        r#"[{"name":"aGVsbG8=","type":5,"size":1}]"#,
        r#"[{"name":"aGVsbG8=","type":"file"}]"#,
        r#"[{"name":"aGVsbG8=","type":"file","size":null}]"#,
        r#"[{"name":"aGVsbG8=","type":"file","size":"1"}]"#,
        r#"[{"name":"aGVsbG8=","type":"file","size":-1}]"#,
        r#"[{"name":"aGVsbG8=","type":"file","size":1.5}]"#,
        r#"[{"name":"aGVsbG8=","type":"file","size":1e400}]"#,
        r#"[{"name":"aGVsbG8=","type":"file","size":18446744073709551616}]"#,
        r#"[{"name":"aGVsbG8=","type":"file","size":1,"mtime":5}]"#,
        r#"[{"name":"a","name":"b","type":"file","size":1}]"#,
        r#"[{"name":"\ud800","type":"file","size":1}]"#,
        r#"[{"name":"\x","type":"file","size":1}]"#,
        "[{'name':'a'}]",
        "[{\"name\":\"a\nb\",\"type\":\"file\",\"size\":1}]",
        r#"[{"name":"aGVsbG8=","type":"file","size":1}"#,
        r#"[{"name":"aGVsbG8=","type":"fi"#,
        "[",
        "",
        "<html><body><a href=\"aGVsbG8=\">aGVsbG8=</a></body></html>",
        "\u{feff}[]",
        "[]\0",
    ] {
        assert_refused(body, listing(body), "listing");
    }
}

#[test]
fn invalid_answers_fail_the_rebuild() {
    let whole = listing(format!("[{GOOD}]"));
    let endless_header = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), b"y".repeat(1 << 20)].concat();
    let elsewhere = Fake::with_listings(|_| Reply::Raw(listing("[]")));
    let redirect = format!(
        "HTTP/1.1 301 Moved\r\nLocation: http://{}{DIRECTORY}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        elsewhere.addr()
    );
    assert_refused("a redirect", redirect, "301");
    assert!(elsewhere.requests().is_empty(), "the redirect was followed");
    for (what, raw) in [
        ("a length that is not kept", whole[..whole.len() - 1].to_vec()),
        ("an endless header", endless_header),
        ("many headers", [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(100_000)].concat()),
        ("interim answers", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000)),
        ("a chunk of no size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n[]\r\n0\r\n\r\n".to_vec()),
        ("a huge chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n[]".to_vec()),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]\n".to_vec()),
        ("no HTTP", b"\x16\x03\x01\x02\0\x01\0".to_vec()),
        ("HTTP/0.9", format!("[{GOOD}]").into_bytes()),
        ("compressed", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\nConnection: close\r\n\r\n\x1f\x8b\x08\0".to_vec()),
        ("nothing", Vec::new()),
        ("206", [b"HTTP/1.1 206 Partial Content\r\n", &whole["HTTP/1.1 200 OK\r\n".len()..]].concat()),
        ("204", b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec()),
    ] {
        assert_refused(what, raw, "");
    }
}

#[test]
fn names_that_are_not_keys_are_junk() {
    let long = "a".repeat(5000);
    let names = [
        "",
        ".",
        "..",
        "../41/aGVsbG8=",
        "aGVsbG8=/",
        "/aGVsbG8=",
        "./aGVsbG8=",
        "a/b",
        "aGVsbG8",
        "aGVsbG8==",
        "aGVsbG9=",
        "AGVsbG8=",
        "aGVsbG8=\\u0000",
        "\\u0000",
        "\\n",
        "\\r\\njunk, left alone: x",
        "\\u001b[31m",
        "\\u202e",
        "%2e%2e",
        "aGVsbG8%3d",
        "~",
        ",",
        "=",
        "~/aGVsbG8=",
        "aGVsbG8=,",
        "aGVsbG8=,zzzzzzzzzzzzzzzz",
        "aGVsbG8=,0000000000000001x",
        "aGVsbG8=,ffffffffffffffff",
        "aGVsbG8=,-000000000000001",
        "aGVsbG8=,+000000000000001",
        "aGVsbG8=,1",
        "aGVsbG8=.0000000001",
        "\\ud83d\\ude00",
        "\u{fffd}",
        "🦀",
        &long,
        "sv00",
        "body_temp",
    ];
    for name in names {
        let entry = |kind: &str| format!(r#"{{"name":"{name}","type":"{kind}","size":5}}"#);
        assert_junk(name, entry("file").as_bytes(), 1);
        assert_junk(
            name,
            [entry("other"), entry("FILE"), entry(""), entry("symlink")].join(",").as_bytes(),
            4,
        );
    }
    assert_junk("bytes that are not text", b"{\"name\":\"\xff\xfe\",\"type\":\"file\",\"size\":5}", 1);
}

#[test]
fn directories_with_unexpected_names_are_not_entered() {
    for name in [
        "",
        ".",
        "..",
        "../..",
        "a/b",
        "/",
        "a b",
        "\\u0000",
        "%2e",
        "?list",
        "#",
        "é",
        "a:b",
        "//other.example/",
    ] {
        assert_junk(name, format!(r#"{{"name":"{name}","type":"directory"}}"#).as_bytes(), 1);
    }
}

#[test]
fn duplicate_and_unusual_entries_count_once() {
    for entry in [
        GOOD.to_owned(),
        // an empty directory with the same name as the file
        r#"{"name":"aGVsbG8=","type":"directory","size":5}"#.to_owned(),
        GOOD.replace("Sat, 21 Nov 2026 03:05:00 GMT", "yesterday"),
        GOOD.replace("Sat, 21 Nov 2026 03:05:00 GMT", "Thu, 01 Jan 1900 00:00:00 GMT"),
        GOOD.replace("Sat, 21 Nov 2026 03:05:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"),
        GOOD.replace("Sat, 21 Nov 2026 03:05:00 GMT", ""),
        GOOD.replace('{', r#"{"extra":null,"#),
    ] {
        assert_junk(&entry, entry.as_bytes(), 0);
    }
}

/// Two files, each with the largest size that the type can hold.
#[test]
fn huge_sizes_do_no_harm() {
    let (one, other) = (Key::new(b"/one"), Key::new(b"/other"));
    let paths = [one.path(Name::Plain), other.path(Name::Plain)];
    let volume = Fake::with_listings(move |request| {
        let names = paths.iter().filter_map(|path| {
            let rest = path.strip_prefix(&request.target)?;
            Some(match rest.split_once('/') {
                Some((directory, _)) => format!(r#"{{"name":"{directory}","type":"directory"}}"#),
                None => format!(r#"{{"name":"{rest}","type":"file","size":{}}}"#, u64::MAX),
            })
        });
        Reply::Raw(listing(format!("[{}]", names.collect::<Vec<_>>().join(","))))
    });
    let ended = rebuild_and(&volume.addr(), |_| {});
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.left);
}

/// A file name can claim the last generation. An index without a free generation can store nothing.
#[test]
fn a_file_name_cannot_use_up_the_generations() {
    let path = Key::new(b"hello").path(Name::Generation(MAX_GENERATION));
    let name = path.strip_prefix(DIRECTORY).unwrap();
    let volume = format!(r#"[{{"name":"{name}","type":"file","size":5}}]"#);
    let fake = Fake::with_listings(move |request| {
        let way = WAY.iter().find(|(path, _)| *path == request.target);
        let entry = way.map(|(_, name)| format!(r#"[{{"name":"{name}","type":"directory"}}]"#));
        Reply::Raw(listing(entry.unwrap_or_else(|| volume.clone())))
    });
    let ended = rebuild_and(&fake.addr(), |_| {});
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("no numbers are left beyond"), "{}", ended.err);
    assert!(!ended.left);
}

/// A [`Liar`]'s answer to a listing.
enum Says {
    /// This body.
    Once(String),
    /// These bytes, repeated as long as the client reads.
    Forever(Vec<u8>),
}

/// A volume with endless listings, or with endlessly many.
struct Liar {
    addr: String,
    asked: Arc<AtomicUsize>,
}

impl Liar {
    /// Serves on detached threads until the test program exits.
    fn new(says: impl Fn(&str) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (says, asked) = (Arc::new(says), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (says, counted) = (Arc::clone(&says), Arc::clone(&counted));
                // an error means that the client is gone
                std::thread::spawn(move || lie(&stream, &*says, &counted).ok());
            }
        });
        Self { addr, asked }
    }
}

fn lie(stream: &TcpStream, says: &dyn Fn(&str) -> Says, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut writer = stream;
    let mut lines = BufReader::new(stream).lines();
    while let Some(first) = lines.next().transpose()? {
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        asked.fetch_add(1, Ordering::Relaxed);
        match says(first.split(' ').nth(1).unwrap_or_default()) {
            Says::Once(body) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                writer.write_all((head + &body).as_bytes())?;
            }
            Says::Forever(bytes) => {
                writer.write_all(b"HTTP/1.1 200 OK\r\n\r\n[")?;
                loop {
                    writer.write_all(&bytes)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn endless_listings_fail_the_rebuild() {
    for (what, bytes, reason) in [
        ("blanks", b" ".repeat(1 << 16), "the listing is too long"),
        (
            "a name",
            b"{\"name\":\"".iter().copied().chain(b"a".repeat(1 << 17)).collect(),
            "an entry that is too long",
        ),
    ] {
        let liar = Liar::new(move |_| Says::Forever(bytes.clone()));
        let ended = rebuild_and(&liar.addr, |_| {});
        let beginning = format!("davkv-rebuild: can't list http://{}/: ", liar.addr);
        // a slow rebuild prints progress lines first
        let last = ended.err.lines().last().unwrap_or_default();
        let is_told = last.starts_with(&beginning) && last.contains(reason);
        assert!(is_told && ended.code == Some(1) && !ended.left, "{what}: {}", ended.err);
    }
}

#[test]
fn endlessly_nested_directories_are_entered_to_a_bounded_depth() {
    let liar = Liar::new(|path| {
        let name = if path.len() < "/aa/bb/".len() { "ab" } else { "abcdefgh" };
        Says::Once(format!(r#"[{{"name":"{name}","type":"directory"}}]"#))
    });
    let ended = rebuild_and(&liar.addr, |_| {});
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!((ended.count("objects"), ended.count("junk")), (0, 1), "{}", ended.err);
}

/// A tree may have too many directories to list. The rebuild then takes time, but no memory.
#[test]
fn an_endless_tree_is_walked_in_bounded_memory_until_the_rebuild_is_killed() {
    let liar = Liar::new(|path| {
        let names = if path.len() < "/aa/bb/".len() { ["aa", "bb"] } else { ["abcdefgh", "ijklmnop"] };
        let entries = names.map(|name| format!(r#"{{"name":"{name}","type":"directory"}}"#));
        Says::Once(format!("[{}]", entries.join(",")))
    });
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("db");
    let mut rebuild = Stopped(command(&db, &liar.addr).spawn().unwrap());
    eventually("many directories are listed", PATIENCE, || liar.asked.load(Ordering::Relaxed) > 5000);
    let status = fs::read_to_string(format!("/proc/{}/status", rebuild.0.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak * 1024 < MEMORY, "{peak} KiB");
    assert!(rebuild.0.try_wait().unwrap().is_none(), "the rebuild is still running");
    drop(rebuild);
    assert!(!db.exists());
}

/// A program that is killed when the test ends.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
