//! Very many connections that send no request, or never complete one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::common::may_open;
use crate::target::Target;

const PATIENCE: Duration = Duration::from_secs(30);

/// Above the master's default limit of 8,192.
const IDLE: usize = 10_000;

/// Heads that are never completed, each almost as long as a head may be.
const SLOW: usize = 300;

/// Upper bound on the master's memory per connection, in bytes, when nothing has arrived on it …
const IDLE_COST: u64 = 32 * 1024;
/// … and when the longest possible incomplete head has arrived: the head, and the spare capacity of its
/// buffer.
const SLOW_COST: u64 = 192 * 1024;

/// Descriptors that the test process needs for other purposes.
const OTHERS: usize = 500;

/// Connects from one of several local addresses, so that none runs out of ports.
fn connect(target: &Target, number: usize) -> TcpStream {
    let to: SocketAddr = target.cluster.master.addr().parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = [127, 0, 1, u8::try_from(1 + number % 4).unwrap()];
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

#[test]
fn ten_thousand_idle_connections_do_not_block_others() {
    if !may_open((IDLE + OTHERS) as u64) {
        return;
    }
    let target = Target::new(&[]);
    // three rounds, because a leak would add up
    for _ in 0..3 {
        let mut idle: Vec<TcpStream> = (0..IDLE).map(|number| connect(&target, number)).collect();
        target.still_serves("10,000 connections were opened");
        // the oldest connections were closed to make room
        assert_eq!(idle[0].read(&mut [0]).unwrap(), 0);
        drop(idle);
        target.await_descriptors();
    }
    target.assert_unharmed_but_grown_by(IDLE_COST * IDLE as u64);
}

#[test]
fn incomplete_heads_do_not_block_others() {
    if !may_open((SLOW + OTHERS) as u64) {
        return;
    }
    let target = Target::new(&[]);
    let mut slow: Vec<TcpStream> = (0..SLOW).map(|number| connect(&target, number)).collect();
    let begin = format!("PUT /a HTTP/1.1\r\nX: {}", "y".repeat(30_000));
    for stream in &mut slow {
        stream.write_all(begin.as_bytes()).unwrap();
    }
    for round in 0..20 {
        for stream in &mut slow {
            stream.write_all(b"y").unwrap();
        }
        target.still_serves(&format!("{round} bytes of {SLOW} heads"));
    }
    drop(slow);
    target.assert_unharmed_but_grown_by(SLOW_COST * SLOW as u64);
}
