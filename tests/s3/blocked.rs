//! Writes that wait for a key that another request has.

use std::fs;
use std::sync::mpsc;

use crate::common::eventually;
use crate::common::http::{Connection, Response, head};
use crate::common::{Cluster, Master};
use crate::rig::{Client, PATIENCE, cluster, eventually_holds_only, fails};

/// So many wait for one key, and no more.
const WAITERS: usize = 64;

/// A native PUT of `12` that stands still before its last byte, and has its key until then.
struct Holder(Connection);

impl Holder {
    #[track_caller]
    fn of(master: &Master, target: &str) -> Self {
        let mut connection = Connection::open(None, &master.addr()).unwrap();
        let head = head(&master.addr(), "PUT", target.as_bytes(), &[("Expect", "100-continue")], 2);
        connection.send(&head).unwrap();
        // the master asks for the body when it has claimed the key
        assert_eq!(connection.receive_any("PUT").unwrap().status, 100);
        connection.send(b"1").unwrap();
        Self(connection)
    }

    /// Sends the last byte.
    #[track_caller]
    fn finish(mut self) {
        self.0.send(b"2").unwrap();
        assert_eq!(self.0.receive("PUT").unwrap().status, 201);
    }
}

/// A connection on which a whole request was sent.
fn sent(s3: &Client, method: &str, target: &str, body: &[u8]) -> Connection {
    let headers = s3.headers(method, target, &[], "");
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let head = head(&s3.addr, method, target.as_bytes(), &headers, body.len());
    let mut connection = Connection::open(None, &s3.addr).unwrap();
    connection.send(&[&head, body].concat()).unwrap();
    connection
}

/// A connection of the master as the kernel has it.
struct Socket {
    client: u16,
    state: String,
    /// The master has read all that came.
    is_read: bool,
}

/// States of a TCP connection, as in the kernel's table.
const ESTABLISHED: &str = "01";
const CLOSED_BY_CLIENT: &str = "08";

/// The master's ends of its connections.
fn sockets(cluster: &Cluster) -> Vec<Socket> {
    let own = cluster.master.addr().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let sockets = table.lines().skip(1).filter_map(|line| {
        // NUMBER: LOCAL REMOTE STATE SENT:RECEIVED …
        let columns: Vec<&str> = line.split_whitespace().collect();
        (port(columns[1]) == own).then(|| Socket {
            client: port(columns[2]),
            state: columns[3].to_owned(),
            is_read: columns[4].ends_with(":00000000"),
        })
    });
    sockets.collect()
}

#[test]
fn writers_that_reset_leave_room_for_others() {
    const CONNECTIONS: usize = 500;
    let cluster = cluster(&["--connections", &CONNECTIONS.to_string()]);
    let s3 = Client::of(&cluster.master);
    // so many keys that none has too many waiters
    let keys: Vec<_> = (0..10).map(|n| format!("/bucket/{n}")).collect();
    let holders: Vec<_> = keys.iter().map(|key| Holder::of(&cluster.master, key)).collect();
    let writers: Vec<_> = (0..520).map(|n| sent(&s3, "PUT", &keys[n % keys.len()], b"value")).collect();
    eventually("all places are taken by requests that were read", PATIENCE, || {
        let read = |socket: &Socket| socket.state == ESTABLISHED && socket.is_read;
        sockets(&cluster).into_iter().filter(read).count() >= CONNECTIONS
    });
    for writer in writers {
        writer.reset();
    }
    s3.put("/bucket/other", b"value");
    // and none of them has written anything
    for holder in holders {
        holder.finish();
    }
    let mut values: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &b"12"[..])).collect();
    values.push(("/bucket/other", b"value"));
    eventually_holds_only(&cluster, &values);
}

#[test]
fn a_writer_that_has_sent_all_and_closes_its_side_is_answered() {
    let cluster = cluster(&[]);
    let s3 = Client::of(&cluster.master);
    let holder = Holder::of(&cluster.master, "/bucket/a");
    let mut writer = sent(&s3, "PUT", "/bucket/a", b"value");
    writer.finish().unwrap();
    eventually("the master's side knows that", PATIENCE, || {
        let mut sockets = sockets(&cluster).into_iter();
        sockets.any(|socket| socket.client == writer.port() && socket.state == CLOSED_BY_CLIENT)
    });
    // events that come later are noticed on each of the master's threads
    for _ in 0..8 {
        sent(&s3, "PUT", "/bucket/a", b"value").reset();
        assert_eq!(s3.get("/bucket/b").status, 404);
    }
    holder.finish();
    let answer = writer.receive("PUT").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(s3.bytes("/bucket/a"), b"value");
}

#[test]
fn more_writers_than_may_wait_for_a_key_are_told_to_slow_down() {
    const MORE: usize = 6;
    let cluster = cluster(&[]);
    let s3 = Client::of(&cluster.master);
    let holder = Holder::of(&cluster.master, "/bucket/a");
    let (answers, answered) = mpsc::channel::<Response>();
    std::thread::scope(|scope| {
        for _ in 0..WAITERS + MORE {
            let (s3, answers) = (&s3, answers.clone());
            scope.spawn(move || {
                let mut writer = sent(s3, "PUT", "/bucket/a", b"value");
                answers.send(writer.receive("PUT").unwrap()).unwrap();
            });
        }
        for _ in 0..MORE {
            let refused = answered.recv_timeout(PATIENCE).unwrap();
            fails(&refused, 503, "SlowDown");
            assert_eq!(refused.header("retry-after"), Some("1"));
        }
        // other keys aren't affected, and who doesn't wait is told the usual
        s3.put("/bucket/b", b"value");
        assert_eq!(cluster.request("PUT", "/bucket/a", b"value").status, 409);
        holder.finish();
        let rest: Vec<_> = answered.iter().take(WAITERS).collect();
        assert!(rest.iter().any(|answer| answer.status == 200));
        for answer in rest.iter().filter(|answer| answer.status != 200) {
            // so many begin at once that some find the key with too many unfinished writes
            fails(answer, 503, "ServiceUnavailable");
        }
    });
    assert_eq!(s3.bytes("/bucket/a"), b"value");
}
