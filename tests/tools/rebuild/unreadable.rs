//! Volumes that can't be read: a rebuild fails, rather than make an index that lacks keys.

use davkv::key::Name;

use crate::common::{Fake, Order, Reply, free_port};
use crate::rig::{REBUILD, Rig, contents, key, run, tool};

/// Asserts that a rebuild fails with a volume that sends the bytes that `script` returns for a path; other
/// paths get an empty listing.
#[track_caller]
fn assert_unreadable(script: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) {
    let rig = Rig::new(2);
    rig.lay(&key("/key"), 0, Name::Plain, b"value");
    let fake = Fake::with_listings(move |request| {
        Reply::Raw(script(&request.target).unwrap_or_else(|| ok("[\r\n]\r\n")))
    });
    let mut volumes = rig.addresses();
    volumes.push(fake.addr());
    let ended = run(&mut tool(REBUILD, &rig.db(), &volumes, &[]));
    ended.assert_one_line(1, &format!("can't list http://{}/", fake.addr()));
    assert!(!rig.db().exists());
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", body)
}

const SUBVOLUME: &str = r#"[{"name":"sv00","type":"directory","mtime":"Sat, 21 Nov 2026 03:05:00 GMT"}]"#;

#[test]
fn a_volume_that_is_down_fails_the_rebuild() {
    let rig = Rig::new(2);
    let mut volumes = rig.addresses();
    volumes.push(format!("127.0.0.1:{}", free_port()));
    let ended = run(&mut tool(REBUILD, &rig.db(), &volumes, &[]));
    ended.assert_one_line(1, &format!("can't list http://{}/", volumes[2]));
    assert!(!rig.db().exists());
}

#[test]
fn a_volume_that_never_answers_fails_the_rebuild() {
    let rig = Rig::new(2);
    let fake = Fake::with_listings(|_| Reply::HangAfter(0));
    let mut volumes = rig.addresses();
    volumes.push(fake.addr());
    let flags = ["--voltimeout", "100ms", "--streamtimeout", "100ms"];
    let ended = run(&mut tool(REBUILD, &rig.db(), &volumes, &flags));
    ended.assert_one_line(1, &format!("can't list http://{}/", fake.addr()));
    assert!(!rig.db().exists());
}

#[test]
fn a_volume_that_answers_with_errors_fails_the_rebuild() {
    for status in ["500 Oops", "403 Forbidden", "404 Not Found", "204 No Content", "206 Partial Content"] {
        assert_unreadable(move |_| Some(answer(status, "")));
    }
}

#[test]
fn a_redirect_instead_of_a_listing_fails_the_rebuild() {
    assert_unreadable(|_| {
        Some(
            b"HTTP/1.1 301 Moved\r\nLocation: /x/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        )
    });
}

#[test]
fn an_error_in_a_subdirectory_fails_the_rebuild() {
    assert_unreadable(|path| Some(if path == "/" { ok(SUBVOLUME) } else { answer("500 Oops", "") }));
}

#[test]
fn a_directory_that_disappears_while_listing_fails_the_rebuild() {
    assert_unreadable(|path| Some(if path == "/" { ok(SUBVOLUME) } else { answer("404 Not Found", "") }));
}

#[test]
fn a_listing_truncated_by_the_connection_fails_the_rebuild() {
    let whole = ok(SUBVOLUME);
    assert_unreadable(move |_| Some(whole[..whole.len() - 3].to_vec()));
}

#[test]
fn a_chunked_listing_without_its_last_chunk_fails_the_rebuild() {
    let chunk = format!("{:x}\r\n{SUBVOLUME}\r\n", SUBVOLUME.len());
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    assert_unreadable(move |path| (path == "/").then(|| format!("{head}{chunk}").into_bytes()));
}

#[test]
fn a_listing_that_ends_early_fails_the_rebuild() {
    for length in [0, 1, 40, SUBVOLUME.len() - 1] {
        assert_unreadable(move |path| (path == "/").then(|| ok(&SUBVOLUME[..length])));
    }
}

#[test]
fn a_listing_in_html_fails_the_rebuild() {
    assert_unreadable(|_| Some(ok("<html><body><a href=\"sv00/\">sv00/</a></body></html>")));
}

#[test]
fn a_listing_of_something_else_fails_the_rebuild() {
    for body in ["{}", "null", "[1]", "[[]]", r#"[{"name":"a","type":"file"}]"#, "[]x", "\u{0}"] {
        assert_unreadable(move |_| Some(ok(body)));
    }
}

#[test]
fn an_answer_that_is_not_http_fails_the_rebuild() {
    assert_unreadable(|_| Some(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()));
}

#[test]
fn a_rebuild_that_failed_can_be_run_again() {
    let mut rig = Rig::new(3);
    rig.lay(&key("/key"), 0, Name::Plain, b"value");
    rig.lay(&key("/key"), 1, Name::Plain, b"value");
    rig.volumes[2].kill();
    assert_eq!(rig.rebuild(&rig.db(), &[]).code, Some(1));
    rig.volumes[2].restart();
    rig.rebuild(&rig.db(), &[]).assert_done();
    assert_eq!(contents(&rig.db()).records.len(), 1);
}

#[test]
fn a_value_that_must_be_compared_and_cannot_be_read_fails_the_rebuild() {
    let rig = Rig::gated(3);
    rig.lay(&key("/key"), 0, Name::Plain, b"value");
    rig.lay(&key("/key"), 1, Name::Generation(9), b"other");
    for gate in &rig.gates {
        gate.rule(|_, target| target.contains(',').then_some(Order::Answer(500)));
    }
    rig.rebuild(&rig.db(), &[]).assert_one_line(1, "can't read");
    assert!(!rig.db().exists());
}
