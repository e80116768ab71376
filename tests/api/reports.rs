//! What the log and the client are told of replicas and volumes: each thing once, and nothing that is wrong.

use std::fs;
use std::time::Duration;

use crate::common::http::{Response, try_request};
use crate::common::{Gate, MARKER, Master, Order, Stage, Volume, eventually};
use crate::rig::{PATIENCE, cluster, put, refused, replicas_on_disk};

/// A master over volumes with gates before them.
struct Gated {
    // fields drop in this order
    master: Master,
    gates: Vec<Gate>,
    _volumes: Vec<Volume>,
    _tempdir: tempfile::TempDir,
}

fn gated(volumes: usize, flags: &[&str]) -> Gated {
    let tempdir = tempfile::tempdir().unwrap();
    let start = |n| Volume::start(&tempdir.path().join(format!("volume{n}")));
    let volumes: Vec<_> = (0..volumes).map(start).collect();
    let gates: Vec<_> = volumes.iter().map(Gate::before).collect();
    let addresses: Vec<_> = gates.iter().map(Gate::addr).collect();
    let master = Master::start(&tempdir.path().join("db"), &addresses, flags);
    Gated { master, gates, _volumes: volumes, _tempdir: tempdir }
}

impl Gated {
    fn send(&self, method: &str, target: &str, body: &[u8]) -> Response {
        try_request(None, &self.master.addr(), method, target.as_bytes(), &[], body).unwrap()
    }

    /// The lines with these words.
    fn lines(&self, words: &str) -> Vec<String> {
        self.master.log().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

#[test]
fn a_damaged_replica_is_told_once_however_often_its_key_is_read() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    put(&cluster, "/other", b"value");
    for key in ["/key", "/other"] {
        fs::remove_file(&replicas_on_disk(&cluster, key)[0]).unwrap();
    }
    // replicas are tried in random order
    for _ in 0..100 {
        assert_eq!(cluster.fetch("/key").text(), "value");
        assert_eq!(cluster.fetch("/other").text(), "value");
    }
    for key in ["key=/key ", "key=/other "] {
        let log = cluster.master.log();
        let told = log.lines().filter(|line| line.contains("missing, torn or stale") && line.contains(key));
        assert_eq!(told.count(), 1, "{log}");
    }
}

/// A reader whose value is replaced before it has seen a file of it.
#[test]
fn a_file_that_was_replaced_meanwhile_is_no_damage() {
    for again in [true, false] {
        let rig = gated(3, &["--readergrace", "1ms", "--voltimeout", "20s"]);
        assert_eq!(rig.send("PUT", "/key", b"one").status, 201);
        rig.gates.iter().for_each(|gate| gate.order("HEAD", Order::Hold));
        let addr = rig.master.addr();
        let reader = std::thread::spawn(move || try_request(None, &addr, "GET", b"/key", &[], b"").unwrap());
        let is_held = || rig.gates.iter().any(|gate| gate.count("HEAD", Stage::Held) > 0);
        eventually("the reader asks a volume", PATIENCE, is_held);
        assert_eq!(rig.send("DELETE", "/key", b"").status, 204);
        if again {
            assert_eq!(rig.send("PUT", "/key", b"two").status, 201);
        }
        for gate in &rig.gates {
            gate.open();
            gate.release();
        }
        assert_eq!(reader.join().unwrap().status, if again { 302 } else { 404 });
        assert_eq!(rig.lines("missing, torn or stale"), Vec::<String>::new());
    }
}

#[test]
fn a_volume_that_refuses_writes_is_told_once_with_its_remedy() {
    for (status, words) in
        [(403, "403: is this master in the volume's MASTER?"), (507, "full"), (500, "full")]
    {
        let rig = gated(4, &[]);
        rig.gates[0].rule(move |method, target| {
            (method == "PUT" && !target.contains(MARKER)).then_some(Order::Answer(status))
        });
        for number in 0..30 {
            assert_eq!(rig.send("PUT", &format!("/key{number}"), b"value").status, 201);
        }
        let lines = rig.lines("replica not written");
        assert!(lines.len() == 1 && lines[0].contains(words), "{status}: {lines:?}");
    }
}

#[test]
fn a_client_is_told_why_volumes_refuse_its_value() {
    for (status, answered, words) in
        [(403, 503, "403: is this master in the volume's MASTER?"), (507, 507, "full"), (500, 507, "full")]
    {
        for value in [b"value".to_vec(), vec![7; 1 << 20]] {
            let rig = gated(3, &[]);
            rig.gates[1].rule(move |method, target| {
                (method == "PUT" && !target.contains(MARKER)).then_some(Order::Answer(status))
            });
            let answer = rig.send("PUT", "/key", &value);
            refused(&answer, answered);
            assert!(answer.text().contains(words), "{}", answer.text());
        }
    }
}

#[test]
fn a_volume_that_is_down_is_not_told_for_each_request() {
    let mut cluster = crate::common::Cluster::new(4, &[]);
    put(&cluster, "/key", b"value");
    cluster.volumes[0].kill();
    for number in 0..60 {
        put(&cluster, &format!("/key{number}"), b"value");
        assert_eq!(cluster.fetch("/key").text(), "value");
    }
    let address = cluster.volumes[0].addr();
    let told =
        |log: &str| log.lines().filter(|line| line.contains("WARN") && line.contains(&address)).count();
    eventually("the volume is down", Duration::from_secs(20), || {
        cluster.master.log().contains("volume is down")
    });
    let log = cluster.master.log();
    // one for the first value that it didn't take, and one for its being down
    assert_eq!(told(&log), 2, "{log}");
}

#[test]
fn a_rebalance_to_a_full_volume_says_so_and_changes_nothing() {
    let rig = gated(4, &[]);
    rig.gates[0]
        .rule(|method, target| (method == "PUT" && !target.contains(MARKER)).then_some(Order::Answer(507)));
    let mut unbalanced = 0;
    for number in 0..10 {
        let key = format!("/key{number}");
        assert_eq!(rig.send("PUT", &key, b"value").status, 201);
        let before = rig.send("GET", &key, b"");
        let answer = rig.send("REBALANCE", &key, b"");
        if before.header("key-balance") == Some("balanced") {
            assert_eq!(answer.status, 204);
            continue;
        }
        unbalanced += 1;
        refused(&answer, 507);
        let text = answer.text();
        assert!(text.contains(&rig.gates[0].addr()) && text.contains("full"), "{text}");
        let after = rig.send("GET", &key, b"");
        assert_eq!(after.header("key-volumes"), before.header("key-volumes"));
    }
    assert!(unbalanced > 0);
}
