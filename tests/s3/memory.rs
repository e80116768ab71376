//! The master's memory is bounded, however many and large the objects.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use md5::{Digest as _, Md5};

use crate::common::http::{Connection, Response, head};
use crate::common::{Cluster, Master, may_open};
use crate::rig::{Client, check, etag};
use crate::signer::{CHUNKS_TRAILER, hex};
use crate::xml;

const MIB: usize = 1 << 20;

/// Upper bound on the master's peak of resident memory.
const MOST: u64 = 96 * MIB as u64;

const OBJECTS: u8 = 16;
const SIZE: usize = 64 * MIB;

/// Disk space that the largest test needs: sixteen objects on three volumes, and a reserve.
const ROOM: u64 = 4 << 30;

/// Runs these tests one at a time, because each needs gigabytes of disk space.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cluster in the fastest directory for gigabytes of files: in memory, if there is enough.
fn cluster() -> (Cluster, Client) {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    let directory: PathBuf = if room > ROOM { memory.to_owned() } else { std::env::temp_dir() };
    let cluster = Cluster::new_in(&directory, 3, &[]);
    let client = Client::of(&cluster.master);
    (cluster, client)
}

#[track_caller]
fn assert_small(master: &Master) {
    let peak = master.peak_memory();
    println!("peak memory: {} MiB", peak / MIB as u64);
    assert!(peak < MOST, "{} MiB were resident", peak / MIB as u64);
}

/// One MiB of an object: one byte repeated, with the piece's number in front.
fn piece(seed: u8, n: usize) -> Vec<u8> {
    let mut piece = vec![seed; MIB];
    piece[..8].copy_from_slice(&n.to_be_bytes());
    piece
}

fn tag(seed: u8) -> String {
    let mut md5 = Md5::new();
    (0..SIZE / MIB).for_each(|n| md5.update(piece(seed, n)));
    format!("\"{}\"", hex(&md5.finalize()))
}

/// Sends an object without holding it in memory.
fn upload(
    s3: &Client,
    target: &str,
    seed: u8,
    headers: &[(&str, &str)],
    before: &str,
    after: &str,
) -> Response {
    let mut connection = Connection::open(None, &s3.addr).unwrap();
    let headers = [headers, &[("x-amz-a", "b")]].concat();
    let length = before.len() + SIZE + after.len();
    connection.send(&head(&s3.addr, "PUT", target.as_bytes(), &headers, length)).unwrap();
    connection.send(before.as_bytes()).unwrap();
    for n in 0..SIZE / MIB {
        connection.send(&piece(seed, n)).unwrap();
    }
    connection.send(after.as_bytes()).unwrap();
    let answer = connection.receive("PUT").unwrap();
    check(&answer, "PUT");
    answer
}

/// Reads an object without holding it in memory, and returns its tag.
fn download(s3: &Client, target: &str) -> String {
    let mut stream = TcpStream::connect(&s3.addr).unwrap();
    let headers = [("x-amz-a", "b"), ("connection", "close")];
    std::io::Write::write_all(&mut stream, &head(&s3.addr, "GET", target.as_bytes(), &headers, 0)).unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    let (mut md5, mut piece) = (Md5::new(), vec![0; MIB]);
    loop {
        let read = stream.read(&mut piece).unwrap();
        if read == 0 {
            return format!("\"{}\"", hex(&md5.finalize()));
        }
        md5.update(&piece[..read]);
    }
}

fn all_at_once(work: impl Fn(u8) + Sync) {
    std::thread::scope(|scope| {
        for n in 0..OBJECTS {
            let work = &work;
            scope.spawn(move || work(n));
        }
    });
}

#[test]
fn memory_is_bounded_during_sixteen_uploads_and_downloads_at_once() {
    let _alone = alone();
    let (cluster, s3) = cluster();
    let key = |n| format!("/bucket/{n}");
    all_at_once(|n| {
        let answer = upload(&s3, &key(n), n, &[], "", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
    assert_small(&cluster.master);
    all_at_once(|n| assert_eq!(download(&s3, &key(n)), tag(n)));
    assert_small(&cluster.master);
}

#[test]
fn memory_is_bounded_during_sixteen_uploads_of_one_large_chunk_each() {
    let _alone = alone();
    let (cluster, s3) = cluster();
    let length = SIZE.to_string();
    let headers = [("x-amz-content-sha256", CHUNKS_TRAILER), ("x-amz-decoded-content-length", &length)];
    all_at_once(|n| {
        let target = format!("/bucket/{n}");
        let before = format!("{SIZE:x}\r\n");
        let answer = upload(&s3, &target, n, &headers, &before, "\r\n0\r\n\r\n");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("etag"), Some(&*tag(n)));
    });
    assert_small(&cluster.master);
}

#[test]
fn memory_is_bounded_during_uploads_in_parts_and_copies() {
    let _alone = alone();
    let (cluster, s3) = cluster();
    let id = s3.begin("/bucket/a", &[]);
    let part = |n: u8| {
        let target = format!("/bucket/a?partNumber={}&uploadId={id}", n + 1);
        etag(&upload(&s3, &target, n, &[], "", ""))
    };
    let tags: Vec<String> = (0..4).map(part).collect();
    assert_eq!(tags, [0, 1, 2, 3].map(tag));
    let answer = s3.complete("/bucket/a", &id, &tags);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_small(&cluster.master);
    let copied = s3.ask("PUT", "/bucket/b", &[("x-amz-copy-source", "/bucket/a")], b"");
    assert_eq!(copied.status, 200, "{}", copied.text());
    let mut whole = Md5::new();
    (0..4)
        .flat_map(|seed| (0..SIZE / MIB).map(move |n| piece(seed, n)))
        .for_each(|piece| whole.update(piece));
    let whole = format!("\"{}\"", hex(&whole.finalize()));
    assert_eq!(xml::text(&copied.text(), "ETag").as_ref(), Some(&whole));
    assert_eq!(download(&s3, "/bucket/a"), whole);
    assert_small(&cluster.master);
}

/// Clients that ask for a page of a list at the same time, and read nothing of it.
const SILENT: usize = 400;

/// Upper bound on the master's peak memory with their pages.
const MOST_UNREAD: u64 = 160 * MIB as u64;

#[test]
fn memory_is_bounded_while_clients_do_not_read_their_lists() {
    let _alone = alone();
    if !may_open(SILENT as u64 + 500) {
        return;
    }
    let (cluster, s3) = cluster();
    let long = "x".repeat(500);
    all_at_once(|n| {
        (0..1000 / usize::from(OBJECTS))
            .for_each(|m| drop(s3.put(&format!("/bucket/{long}{n}/{m}"), b"value")));
    });
    let silent: Vec<Connection> = (0..SILENT)
        .map(|_| {
            let mut connection = Connection::open_within(Duration::from_mins(1), None, &s3.addr).unwrap();
            let target = b"/bucket?list-type=2";
            connection.send(&head(&s3.addr, "GET", target, &[("x-amz-a", "b")], 0)).unwrap();
            connection
        })
        .collect();
    let mut statuses = BTreeMap::<String, usize>::new();
    let silent: Vec<Connection> = silent
        .into_iter()
        .map(|mut connection| {
            *statuses.entry(connection.line().unwrap()).or_default() += 1;
            connection
        })
        .collect();
    let peak = cluster.master.peak_memory();
    println!("answers: {statuses:?}; peak memory: {} MiB", peak / MIB as u64);
    assert!(
        statuses.keys().all(|status| status.contains(" 200 ") || status.contains(" 503 ")),
        "{statuses:?}"
    );
    assert!(peak < MOST_UNREAD, "{} MiB were resident", peak / MIB as u64);
    drop(silent);
    assert_eq!(s3.keys("bucket").len(), 992);
}
