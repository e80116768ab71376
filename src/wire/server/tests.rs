//! Connections that stay, linger or panic, on real sockets. The clock is paused where time matters: it
//! jumps on when nothing else can happen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, and some requests here shall")]

use std::sync::Arc;

use hyper::StatusCode;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::*;
use crate::wire::{Outgoing, caught};

/// Far more than anything takes here that happens at all.
const PATIENCE: Duration = Duration::from_secs(20);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// What requests that wait wait for, and tell.
#[derive(Default)]
struct Signals {
    go: Notify,
    waits: Notify,
}

/// Serves in the background, on any port: `/wait` when it is let go, `/watch` then or, with another status, when its
/// client is gone, `/panic` with a panic, and all else at once.
async fn server(connections: u32, signals: &Arc<Signals>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let signals = Arc::clone(signals);
    let answer = move |context: RequestContext, request: Request<Incoming>| {
        let signals = Arc::clone(&signals);
        async move {
            let path = request.uri().path();
            let work = async {
                let mut status = StatusCode::OK;
                match path {
                    "/wait" => signals.go.notified().await,
                    "/watch" => {
                        signals.waits.notify_one();
                        tokio::select! {
                            () = signals.go.notified() => {}
                            () = context.client_gone().cancelled_owned() => status = StatusCode::GONE,
                        }
                    }
                    "/panic" => panic!("as the test wants it"),
                    _ => {}
                }
                let mut answer = Response::new(Outgoing::Text(None));
                *answer.status_mut() = status;
                answer
            };
            Ok(caught(work).await.unwrap_or_else(|panicked| {
                let mut answer = Response::new(Outgoing::Text(Some(format!("{panicked}\n").into())));
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                answer
            }))
        }
    };
    tokio::spawn(async move {
        serve(listener, &Workers::default(), answer, connections, std::future::pending(), Duration::ZERO)
            .await
    });
    address
}

/// A connection that has sent these bytes.
async fn sent(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// The next answer of a connection, body and all.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.to_lowercase().split("content-length: ").nth(1).map_or(0, |rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    });
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    head + &String::from_utf8(body).unwrap()
}

/// What a connection still brings until it is closed.
async fn rest(mut stream: TcpStream) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    rest
}

#[tokio::test]
async fn who_has_sent_a_request_is_answered_however_many_others_come() {
    let address = server(1, &Arc::default()).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(sent(address, REQUEST).await);
    }
    for stream in &mut streams {
        let answer = answer(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn who_asks_first_and_has_nothing_to_send_is_answered_for_the_last_time() {
    let address = server(8, &Arc::default()).await;
    let request = "PUT /key HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n";
    let mut stream = sent(address, format!("{request}Expect: 100-continue\r\n\r\n").as_bytes()).await;
    assert!(answer(&mut stream).await.contains("connection: close"));
    assert_eq!(rest(stream).await, "");
    let mut stream = sent(address, format!("{request}\r\n").as_bytes()).await;
    assert!(!answer(&mut stream).await.contains("connection: close"));
}

#[tokio::test]
async fn a_panic_is_answered_and_takes_nothing_else_down() {
    let signals = Arc::<Signals>::default();
    let address = server(8, &signals).await;
    let mut other = sent(address, b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut stream = sent(address, b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let panicked = answer(&mut stream).await;
    assert!(panicked.starts_with("HTTP/1.1 500 "), "{panicked}");
    assert!(panicked.ends_with("\r\n\r\nthe master failed, see its log\n"), "{panicked}");
    stream.write_all(REQUEST).await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 "), "its connection serves on");
    signals.go.notify_one();
    assert!(answer(&mut other).await.starts_with("HTTP/1.1 200 "), "a request under way at the time");
}

#[tokio::test]
async fn idle_connections_make_room_for_one_that_finds_no_place() {
    let address = server(2, &Arc::default()).await;
    let (fresh, mut used) = (sent(address, b"").await, sent(address, REQUEST).await);
    answer(&mut used).await;
    let mut third = sent(address, REQUEST).await;
    assert!(answer(&mut third).await.starts_with("HTTP/1.1 200 "));
    assert_eq!((rest(fresh).await, rest(used).await), (String::new(), String::new()));
}

#[tokio::test(start_paused = true)]
async fn requests_under_way_keep_their_places() {
    let signals = Arc::<Signals>::default();
    let address = server(2, &signals).await;
    let mut waiting = sent(address, b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut half = sent(address, b"GET / HTTP/1.1\r\nHo").await;
    let mut third = sent(address, REQUEST).await;
    sleep(LAST_CHANCE * 2).await;
    half.write_all(b"st: x\r\n\r\n").await.unwrap();
    assert!(answer(&mut half).await.contains("connection: close"), "then it makes room");
    assert!(answer(&mut third).await.starts_with("HTTP/1.1 200 "));
    signals.go.notify_one();
    assert!(answer(&mut waiting).await.starts_with("HTTP/1.1 200 "));
}

/// Ends a connection with a reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_reset_ends_a_wait_and_a_half_close_does_not() {
    let signals = Arc::<Signals>::default();
    let address = server(2, &signals).await;
    let request = b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut half_closed = sent(address, request).await;
    half_closed.shutdown().await.unwrap();
    signals.waits.notified().await;
    // its body never ends
    let upload = b"PUT /watch HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1";
    for bytes in [&request[..], upload] {
        let stream = sent(address, bytes).await;
        signals.waits.notified().await;
        reset(stream);
        // there is a place for the next one only if it has left
        let mut next = sent(address, REQUEST).await;
        let answer = timeout(PATIENCE, answer(&mut next)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    signals.go.notify_one();
    assert!(answer(&mut half_closed).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_and_an_idle_connection_are_given_up() {
    let address = server(8, &Arc::default()).await;
    let begun = Instant::now();
    let mut idle = sent(address, REQUEST).await;
    answer(&mut idle).await;
    let (mut dripping, mut drips) = sent(address, b"GET / HTTP/1.1\r\nX: ").await.into_split();
    let drip = async {
        loop {
            sleep(Duration::from_secs(1)).await;
            drips.write_all(b"x").await.unwrap();
        }
    };
    tokio::select! {
        ended = dripping.read_u8() => drop(ended.unwrap_err()),
        () = drip => {}
    }
    assert_eq!(rest(idle).await, "");
    assert_eq!(begun.elapsed().as_secs(), HEAD_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn the_last_places_are_for_the_quick() {
    let address = server(4, &Arc::default()).await;
    let begun = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(sent(address, b"GET / HTTP/1.1\r\n").await);
    }
    rest(slow.pop().unwrap()).await;
    assert_eq!(begun.elapsed().as_secs(), HEAD_TIMEOUT_SCARCE.as_secs());
    rest(slow.pop().unwrap()).await;
    assert_eq!(begun.elapsed().as_secs(), HEAD_TIMEOUT.as_secs());
}
