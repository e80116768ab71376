//! Shutdown of the master with open connections.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use crate::command_line::{fails, flags};
use crate::common::http::{Connection, head};
use crate::common::{Cluster, Master, Volume, eventually, free_port};
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
    let mut cluster = Cluster::new(3, &["--grace", "100ms"]);
    let _upload = half_an_upload(&cluster.master, "/key");
    assert!(cluster.master.terminate().success());
    assert_eq!(bytes_in_logs(&cluster), 0, "minikeyvalue would miss what LevelDB's log holds");
    cluster.master.restart();
    refuses(&cluster, "GET", "/key", b"", 404);
    eventually_no_files(&cluster);
}

fn bytes_in_logs(cluster: &Cluster) -> u64 {
    let files = fs::read_dir(cluster.tempdir.path().join("db")).unwrap().map(|entry| entry.unwrap());
    let logs = files.filter(|file| file.path().extension().is_some_and(|of| of == "log"));
    logs.map(|log| log.metadata().unwrap().len()).sum()
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

#[test]
fn a_master_that_is_started_while_another_one_ends_says_so() {
    let mut cluster = cluster();
    let mut upload = half_an_upload(&cluster.master, "/key");
    cluster.master.ask_to_end();
    eventually("new connections are refused", PATIENCE, || {
        TcpStream::connect(cluster.master.addr()).is_err()
    });
    let port = free_port().to_string();
    fails(&flags(&cluster.tempdir.path().join("db"), &port), &[], 1, &["db", "in use"]);
    upload.send(b"2").unwrap();
    assert_eq!(upload.receive("PUT").unwrap().status, 201);
    assert!(cluster.master.wait().success());
}

/// As systemd has it with `contrib/davkv.socket`.
#[test]
fn connections_to_a_socket_that_outlives_the_master_wait_for_the_next_one() {
    let tempdir = tempfile::tempdir().unwrap();
    let volume = Volume::start(&tempdir.path().join("volume"));
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let descriptor = format!("/proc/self/fd/{}", socket.as_raw_fd());
    let socket_name = fs::read_link(descriptor).unwrap();
    let mut master =
        Master::start_with(socket, &tempdir.path().join("db"), &[volume.addr()], &["--replicas", "1"]);
    let addr = master.addr();
    let mut upload = half_an_upload(&master, "/key");
    master.ask_to_end();
    let descriptors = format!("/proc/{}/fd", master.pid());
    eventually("the master has closed the socket", PATIENCE, || {
        let mut open = fs::read_dir(&descriptors).unwrap().map(|entry| entry.unwrap().path());
        !open.any(|open| fs::read_link(open).is_ok_and(|name| name == socket_name))
    });
    let mut waiting: Vec<Connection> = (0..3).map(|_| Connection::open(None, &addr).unwrap()).collect();
    for connection in &mut waiting {
        connection.send(&head(&addr, "GET", b"/key", &[], 0)).unwrap();
    }
    upload.send(b"2").unwrap();
    assert_eq!(upload.receive("PUT").unwrap().status, 201);
    assert!(master.wait().success());
    master.restart();
    for mut connection in waiting {
        assert_eq!(connection.receive("GET").unwrap().status, 302);
    }
}
