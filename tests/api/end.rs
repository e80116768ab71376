//! Shutdown of the master with open connections.

use std::net::TcpStream;

use crate::common::http::{Connection, head};
use crate::common::{Cluster, eventually};
use crate::rig::{PATIENCE, cluster, eventually_no_files, half_an_upload, refuses};

#[test]
fn an_upload_under_way_at_shutdown_is_finished() {
    let mut cluster = cluster();
    let mut upload = half_an_upload(&cluster.master, "/key");
    cluster.master.ask_to_end();
    eventually("new connections are refused", PATIENCE, || {
        TcpStream::connect(cluster.master.addr()).is_err()
    });
    upload.send(b"2").unwrap();
    assert_eq!(upload.receive("PUT").unwrap().status, 201);
    assert!(cluster.master.wait().success());
    cluster.master.restart();
    assert_eq!(cluster.fetch("/key").text(), "12");
}

#[test]
fn a_stalled_upload_delays_shutdown_no_longer_than_the_grace() {
    let mut cluster = Cluster::new(3, &["--grace", "100ms", "--clienttimeout", "1h"]);
    let _upload = half_an_upload(&cluster.master, "/key");
    assert!(cluster.master.terminate().success());
    cluster.master.restart();
    refuses(&cluster, "GET", "/key", b"", 404);
    eventually_no_files(&cluster);
}

#[test]
fn an_idle_connection_does_not_delay_shutdown() {
    let mut cluster = Cluster::new(3, &["--grace", "1h"]);
    let addr = cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    connection.send(&head(&addr, "GET", b"/none", &[], 0)).unwrap();
    assert_eq!(connection.receive("GET").unwrap().status, 404);
    assert!(cluster.master.terminate().success());
}
