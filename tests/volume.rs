//! Access control of a volume: what the template and `volume/start` refuse, each case on real nginx.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use common::http::{Connection, Response, head, request, request_from};
use common::{MARKER, OWNER_FILE, Volume, eventually, free_port, template};

/// The address that is a master in these tests. A client that doesn't choose its address is 127.0.0.1, a
/// stranger.
const MASTER: &str = "127.0.0.9";
const PATIENCE: Duration = Duration::from_secs(10);

const VALUE: &str = "/sv03/ab/cd/L2E=";

/// A volume that holds one value, and a directory where a value could be.
fn volume() -> (Volume, tempfile::TempDir) {
    let tempdir = tempfile::tempdir().unwrap();
    let volume = Volume::start_for(MASTER, &tempdir.path().join("volume"));
    volume.mark(&["", "sv03", "sv0F"]);
    assert_eq!(master(&volume, "PUT", VALUE, b"value").status, 201);
    assert_eq!(master(&volume, "PUT", "/ab/cd/L2E/L2E=", b"nested").status, 201);
    (volume, tempdir)
}

#[track_caller]
fn master(volume: &Volume, method: &str, target: &str, body: &[u8]) -> Response {
    request_from(MASTER, &volume.addr(), method, target, &[], body)
}

#[track_caller]
fn stranger(volume: &Volume, method: &str, target: &str) -> Response {
    request(&volume.addr(), method, target, &[], b"")
}

/// Runs `volume/start`, which is expected to exit, and returns its output.
fn start(dir: &str, set: &[(&str, &str)]) -> Output {
    let mut command = Volume::command(Path::new(dir), free_port());
    command.envs(set.iter().copied()).output().unwrap()
}

#[track_caller]
fn assert_one_line(output: &Output, code: i32, part: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.lines().count() == 1 && said.contains(part), "{said}");
}

#[test]
fn strangers_read_values() {
    let (volume, _tempdir) = volume();
    let answer = stranger(&volume, "GET", VALUE);
    assert_eq!((answer.status, answer.text().as_str()), (200, "value"));
    // so that browsers don't run stored scripts
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let answer = stranger(&volume, "HEAD", VALUE);
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("5")));
    let answer = request(&volume.addr(), "GET", VALUE, &[("Range", "bytes=1-2")], b"");
    assert_eq!((answer.status, answer.text().as_str()), (206, "al"));
    assert_eq!(stranger(&volume, "GET", "/sv03/ab/cd/L2I=").status, 404);
}

#[test]
fn strangers_cannot_write() {
    let (volume, _tempdir) = volume();
    let before = volume.files();
    let methods = [
        "PUT",
        "DELETE",
        "MKCOL",
        "MOVE",
        "COPY",
        "PROPFIND",
        "PROPPATCH",
        "LOCK",
        "POST",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "NONSENSE",
    ];
    for method in methods {
        for target in [VALUE, "/ab/cd/bmV3", "/ab/cd/L2E", "/ab/cd/", "/ab/", "/sv03/ab/cd/", "/"] {
            let destination = format!("http://{}/ab/cd/bmV3", volume.addr());
            let headers = [("Destination", destination.as_str()), ("Overwrite", "T")];
            let answer = request(&volume.addr(), method, target, &headers, b"");
            assert!(matches!(answer.status, 403..=405), "{method} {target}: {answer:?}");
            assert_eq!(volume.files(), before, "{method} {target}");
        }
    }
}

#[test]
fn a_stranger_is_refused_before_the_body() {
    let (volume, _tempdir) = volume();
    let mut connection = Connection::open(None, &volume.addr()).unwrap();
    let headers = [("Expect", "100-continue")];
    connection.send(&head(&volume.addr(), "PUT", b"/ab/cd/bmV3", &headers, 1 << 30)).unwrap();
    assert_eq!(connection.receive_any("PUT").unwrap().status, 403);
}

#[test]
fn the_marker_and_the_owner_file_are_between_the_master_and_the_volume() {
    let (volume, _tempdir) = volume();
    for file in [MARKER, OWNER_FILE].map(|file| format!("/sv03/{file}")) {
        assert!(matches!(master(&volume, "PUT", &file, b"one").status, 201 | 204), "{file}");
        assert_eq!(master(&volume, "PUT", &file, b"two").status, 204, "{file}");
        assert_eq!(master(&volume, "GET", &file, b"").text(), "two", "{file}");
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            assert_eq!(stranger(&volume, method, &file).status, 403, "{method} {file}");
        }
        // one that is lost would have the volume refused
        assert_eq!(master(&volume, "DELETE", &file, b"").status, 403, "{file}");
    }
    // on a mount point the marker may be written, when the volume is adopted, but nothing beside it before
    let unmarked = format!("/sv04/{OWNER_FILE}");
    assert_eq!(master(&volume, "PUT", &unmarked, b"one").status, 503);
    assert_eq!(master(&volume, "GET", &unmarked, b"").status, 404);
    assert!(!volume.dir().join("sv04").exists());
    volume.mark(&["sv04"]);
    assert_eq!(master(&volume, "PUT", &unmarked, b"one").status, 201);
}

#[test]
fn strangers_cannot_list() {
    let (volume, _tempdir) = volume();
    let targets = [
        "/",
        "//",
        "/.",
        "/?x",
        "/%2f",
        "/ab/",
        "/ab/cd/",
        "/ab/cd/%2e",
        "/ab%2f",
        "/sv03/",
        "/sv03/ab/",
        "/sv03/ab/cd/",
        "/ab/cd/L2E/",
        "/ab/cd/missing/",
        "/zz/",
        "/sv03/zz/",
    ];
    for target in targets {
        for method in ["GET", "HEAD"] {
            let answer = stranger(&volume, method, target);
            assert!(matches!(answer.status, 403 | 404), "{method} {target}: {answer:?}");
        }
    }
}

#[test]
fn a_directory_without_its_slash_is_404() {
    let (volume, _tempdir) = volume();
    // a redirect to the name with the slash would reveal what exists
    for target in ["/ab", "/ab/cd", "/sv03", "/sv03/ab", "/sv03/ab/cd", "/ab/cd/L2E", "/body_temp"] {
        for method in ["GET", "HEAD"] {
            for answer in [stranger(&volume, method, target), master(&volume, method, target, b"")] {
                assert_eq!((answer.status, answer.header("location")), (404, None), "{target}");
            }
        }
        // nor can a directory be replaced or deleted
        for method in ["PUT", "DELETE"] {
            let answer = master(&volume, method, target, b"");
            assert!(matches!(answer.status, 403 | 404), "{method} {target}: {answer:?}");
        }
    }
    assert_eq!(volume.files().len(), 2);
}

#[test]
fn only_values_are_reachable() {
    let (volume, _tempdir) = volume();
    let dir = volume.dir();
    fs::write(dir.join("body_temp/0000009999"), "half").unwrap();
    fs::write(dir.join("ab/cd/.hidden"), "hidden").unwrap();
    fs::write(dir.join("ab/cd/index.html"), "foreign").unwrap();
    fs::write(dir.join("loose"), "foreign").unwrap();
    let targets = [
        "/body_temp/0000009999",
        "/body_temp/",
        "/nginx.pid",
        "/.nginx.conf",
        "/loose",
        "/ab/cd/.hidden",
        "/ab/cd/index.html",
        "/ab/cd/../../nginx.pid",
        "/ab/cd/%2e%2e/%2e%2e/nginx.pid",
        "/ab/cd/..%2f..%2fnginx.pid",
        "/ab/cd/..%2F..%2Fbody_temp/0000009999",
        "//nginx.pid",
        "/ab/cd/L2E=%0a",
        "/sv03/ab/cd/L2E=%0A",
        "/sv03/ab/cd/L2E=%20",
        "/AB/cd/L2E",
        "/sv3/ab/cd/L2E",
    ];
    for target in targets {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let answers = [stranger(&volume, method, target), master(&volume, method, target, b"")];
            for answer in answers {
                assert_eq!(answer.status, 404, "{method} {target}");
            }
        }
    }
    // paths above the root, or with a zero byte
    for target in ["/../etc/passwd", "/..%2fetc/passwd", "/%2e%2e/etc/passwd", "/ab/cd/a%00b"] {
        assert_eq!(master(&volume, "GET", target, b"").status, 400, "{target}");
    }
    assert_eq!(fs::read(dir.join("body_temp/0000009999")).unwrap(), b"half");
    // the listing has no hidden file, and no stray index page replaces it
    let listing = master(&volume, "GET", "/ab/cd/", b"");
    assert_eq!((listing.status, listing.header("content-type")), (200, Some("application/json")));
    let listing = listing.text();
    assert!(listing.contains("\"index.html\"") && !listing.contains("hidden"), "{listing}");
}

#[test]
fn a_master_cannot_delete_a_directory() {
    let (volume, _tempdir) = volume();
    let before = volume.files();
    let targets = [
        "/",
        "/ab/",
        "/ab/cd/",
        "/ab/cd/L2E/",
        "/sv03/",
        "/sv03/ab/",
        "/sv03/ab/cd/",
        "//",
        "/ab/cd/x/../",
        "/ab/cd/%2e/",
        "/ab/cd%2f",
        "/body_temp/",
        "/sv03/ab/cd/L2E=/",
    ];
    for target in targets {
        for method in ["DELETE", "PUT", "MKCOL", "MOVE", "COPY", "POST"] {
            let answer = master(&volume, method, target, b"");
            assert!(matches!(answer.status, 403..=405), "{method} {target}: {answer:?}");
            assert_eq!(volume.files(), before, "{method} {target}");
        }
    }
    assert_eq!(master(&volume, "MOVE", VALUE, b"").status, 403);
    assert_eq!(master(&volume, "COPY", VALUE, b"").status, 403);
}

#[test]
fn a_master_writes_lists_and_deletes() {
    let (volume, _tempdir) = volume();
    let long = "A".repeat(254);
    let names = [
        "/ab/cd/L2E=".to_owned(),
        "/ab/cd/a+b/c+/L2E=".to_owned(),
        "/ab/cd/L2Et_w,00000000000000ff".to_owned(),
        format!("/sv0F/ab/cd/{long}~/{long}~/QQ=="),
        format!("/ab/cd/{long}~/QQ,0000000000000001"),
    ];
    for name in &names {
        assert_eq!(master(&volume, "PUT", name, b"one").status, 201, "{name}");
        assert_eq!(master(&volume, "PUT", name, b"two").status, 204, "{name}");
        assert_eq!(stranger(&volume, "GET", name).text(), "two", "{name}");
    }
    // percent-encoding makes no difference
    assert_eq!(stranger(&volume, "GET", "/ab/cd/a%2bb/c%2B/L2E%3D").text(), "two");
    let listing = master(&volume, "GET", &format!("/sv0F/ab/cd/{long}~/"), b"");
    assert!(listing.status == 200 && listing.text().contains(&format!("{long}~")), "{listing:?}");
    for target in ["/", "/ab/", "/ab/cd/", "/sv03/", "/sv03/ab/", "/sv03/ab/cd/", "/ab/cd/L2E/"] {
        assert_eq!(master(&volume, "GET", target, b"").status, 200, "{target}");
    }
    assert_eq!(master(&volume, "GET", "/ab/ce/", b"").status, 404);
    for name in &names {
        assert_eq!(master(&volume, "DELETE", name, b"").status, 204, "{name}");
        assert_eq!(master(&volume, "DELETE", name, b"").status, 404, "{name}");
    }
    assert_eq!(volume.files().len(), 2, "{:?}", volume.files());
}

#[test]
fn the_date_header_becomes_the_time_of_the_file() {
    let (volume, _tempdir) = volume();
    let date = [("Date", "Sun, 09 Sep 2001 01:46:40 GMT")];
    let answer = request_from(MASTER, &volume.addr(), "PUT", "/ab/cd/bmV3", &date, b"old");
    assert_eq!(answer.status, 201);
    let modified = fs::metadata(volume.dir().join("ab/cd/bmV3")).unwrap().modified().unwrap();
    assert_eq!(modified, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let listing = master(&volume, "GET", "/ab/cd/", b"").text();
    assert!(listing.contains("Sun, 09 Sep 2001 01:46:40 GMT"), "{listing}");
}

#[test]
fn a_partial_upload_is_not_reachable() {
    let (volume, _tempdir) = volume();
    let before = volume.files();
    let half = vec![b'x'; 300_000];
    for target in ["/ab/cd/bmV3", VALUE] {
        let mut connection = Connection::open(Some(MASTER), &volume.addr()).unwrap();
        connection.send(&head(&volume.addr(), "PUT", target.as_bytes(), &[], 600_000)).unwrap();
        connection.send(&half).unwrap();
        eventually("the partial upload has a temporary file", PATIENCE, || volume.temporary_files() == 1);
        assert_eq!(volume.files(), before);
        // the name of its temporary file can be guessed
        assert_eq!(stranger(&volume, "GET", "/body_temp/0000000001").status, 404);
        drop(connection);
        eventually("the temporary file is gone", PATIENCE, || volume.temporary_files() == 0);
        assert_eq!(volume.files(), before);
    }
}

#[test]
fn the_start_deletes_leftovers_and_keeps_values() {
    let (mut volume, _tempdir) = volume();
    let before = volume.files();
    let mut connection = Connection::open(Some(MASTER), &volume.addr()).unwrap();
    connection.send(&head(&volume.addr(), "PUT", b"/ab/cd/bmV3", &[], 600_000)).unwrap();
    connection.send(&vec![b'x'; 300_000]).unwrap();
    eventually("the partial upload has a temporary file", PATIENCE, || volume.temporary_files() == 1);
    volume.kill();
    assert_eq!(volume.temporary_files(), 1);
    volume.restart();
    assert_eq!(volume.temporary_files(), 0);
    assert_eq!(volume.files(), before);
}

#[test]
fn a_directory_is_served_by_one_process_only() {
    let (mut volume, _tempdir) = volume();
    let dir = volume.dir().to_str().unwrap().to_owned();
    fs::write(volume.dir().join("body_temp/0000009999"), "an upload under way").unwrap();
    assert_one_line(&start(&dir, &[]), 1, "is being served already");
    // nor by another path to it
    assert_one_line(&start(&format!("{dir}/ab/.."), &[]), 1, "is being served already");
    assert_eq!(volume.temporary_files(), 1, "uploads of the running volume were deleted");
    volume.restart();
}

#[test]
fn orphaned_workers_do_not_prevent_a_restart() {
    let (mut volume, _tempdir) = volume();
    let orphans = volume.kill_first_process();
    assert_eq!(orphans.len(), 2);
    // orphaned workers keep serving
    assert_eq!(stranger(&volume, "GET", VALUE).status, 200);
    volume.restart();
    assert_eq!(stranger(&volume, "GET", VALUE).text(), "value");
    assert!(volume.log().contains("ending the workers"), "{}", volume.log());
    let workers = volume.kill_first_process();
    assert!(!workers.iter().any(|worker| orphans.contains(worker)));
    volume.restart();
}

#[test]
fn a_paused_volume_accepts_connections_and_answers_when_resumed() {
    let (volume, _tempdir) = volume();
    volume.pause();
    let mut connection = Connection::open(None, &volume.addr()).unwrap();
    connection.send(&head(&volume.addr(), "GET", VALUE.as_bytes(), &[], 0)).unwrap();
    volume.resume();
    assert_eq!(connection.receive("GET").unwrap().text(), "value");
}

#[test]
fn unusual_directory_names_work_or_are_refused() {
    let tempdir = tempfile::tempdir().unwrap();
    let volume = Volume::start(&tempdir.path().join("a b;{}'#é&%~"));
    volume.mark(&[""]);
    // everyone on this machine is a master of this volume
    assert_eq!(request(&volume.addr(), "PUT", "/ab/cd/L2E=", &[], b"value").status, 201);
    assert_eq!(volume.files(), [("ab/cd/L2E=".to_owned(), b"value".to_vec())]);
    for name in ["a$b", "a\"b", "a\\b", "a\nb"] {
        let dir = tempdir.path().join(name);
        assert_one_line(&start(dir.to_str().unwrap(), &[]), 2, "choose another name");
        assert!(!dir.exists());
    }
}

#[test]
fn invalid_usage_is_reported_in_one_line() {
    let tempdir = tempfile::tempdir().unwrap();
    let dir = tempdir.path().join("volume");
    let dir = dir.to_str().unwrap();
    for port in ["", "0", "65536", "3001x", "a b:3001", "1;2", ":3001", "127.0.0.1:"] {
        assert_one_line(&start(dir, &[("PORT", port)]), 2, "PORT=3001 volume/start [--here] DIR");
    }
    for masters in [",", "localhost", "127.0.0.1;", "127.0.0.1 1; }", "${PORT}"] {
        assert_one_line(&start(dir, &[("MASTER", masters)]), 2, "MASTER=10.0.0.5");
    }
    assert_one_line(&start(dir, &[("WORKERS", "many")]), 2, "WORKERS=16");
    assert_one_line(&start(dir, &[("BODY_BUFFER", "64k;")]), 2, "BODY_BUFFER=1m");
    assert_one_line(&start("--help", &[]), 2, "PORT=3001 volume/start [--here] DIR");
    assert_one_line(&start("", &[]), 2, "PORT=3001 volume/start [--here] DIR");
    let two = Volume::command(Path::new(dir), free_port()).arg("more").output().unwrap();
    assert_one_line(&two, 2, "PORT=3001 volume/start [--here] DIR");
    // `volume/start` doesn't create a missing parent, which may be a disk that is not mounted
    let missing = format!("{dir}/volume");
    assert_one_line(&start(&missing, &[]), 1, "does its parent exist");
    assert!(!Path::new(dir).exists());
}

/// The official nginx container fills in only those placeholders whose names are set in the environment; all
/// other dollar signs stay.
#[test]
fn the_template_works_in_a_container() {
    let tempdir = tempfile::tempdir().unwrap();
    let environment = [
        ("PORT", "3001"),
        ("VOLUME", tempdir.path().to_str().unwrap()),
        ("MASTER", "10.0.0.5 1; 10.0.1.0/24 1; fd00::/8 1;"),
        ("WORKERS", "auto"),
        ("BODY_BUFFER", "64k"),
        ("HOME", "/root"),
        ("NGINX_VERSION", "1.29.0"),
    ];
    let mut config = fs::read_to_string(template()).unwrap();
    for (name, value) in environment {
        config = config.replace(&format!("${{{name}}}"), value);
        assert!(!config.contains(&format!("${name}")), "an nginx variable collides with ${name}");
    }
    assert!(!config.contains("${"), "the template has a placeholder that its header doesn't name");
    let path = tempdir.path().join("nginx.conf");
    fs::write(&path, config).unwrap();
    let search = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
    let output = Command::new("nginx")
        .args(["-t", "-e", "stderr", "-g", "daemon off;", "-c"])
        .arg(&path)
        .env("PATH", search)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("[warn]"), "{said}");
}
