//! Volumes whose disks are full, and get room again.

use std::fs;

use crate::common::{Disk, Master, Response, Volume, eventually};
use crate::rig::{Client, PATIENCE, fails, tag_of, value};
use crate::xml;

/// Larger than the small disks, …
const LARGE: usize = 8 << 20;
/// … which have room for the markers and the directories.
const SMALL_DISK: &str = "4m";

struct Store {
    // fields drop in this order
    s3: Client,
    _master: Master,
    volumes: Vec<Volume>,
    disks: Vec<Disk>,
    _tempdir: tempfile::TempDir,
}

/// Four volumes, of which the first two have small disks, and a master that keeps two replicas.
fn store() -> Option<Store> {
    let tempdir = tempfile::tempdir().unwrap();
    let dir = |n: usize| tempdir.path().join(format!("volume{n}"));
    let disks: Vec<Disk> = (0..2).map_while(|n| Disk::tmpfs(&dir(n), SMALL_DISK)).collect();
    if disks.len() < 2 {
        return None;
    }
    let volumes: Vec<_> = (0..4).map(|n| Volume::start(&dir(n))).collect();
    let addresses: Vec<_> = volumes.iter().map(Volume::addr).collect();
    let master = Master::start(&tempdir.path().join("db"), &addresses, &["--replicas", "2"]);
    Some(Store { s3: Client::of(&master), _master: master, volumes, disks, _tempdir: tempdir })
}

/// Asks again where a client is asked to: once, as the full volumes are known by then.
fn with_one_more_try(mut ask: impl FnMut() -> Response) -> (Response, bool) {
    let answer = ask();
    if answer.status != 503 {
        return (answer, false);
    }
    fails(&answer, 503, "ServiceUnavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    (ask(), true)
}

#[test]
fn objects_overwrites_and_parts_go_to_volumes_with_room() {
    let Some(Store { s3, volumes, .. }) = &store() else { return };
    let mut tries = 0;
    for n in 0..8 {
        let key = format!("/bucket/{n}");
        // a small one lies anywhere, and is overwritten by a large one
        s3.put(&key, b"small");
        let body = value(n, LARGE);
        let (answer, again) = with_one_more_try(|| s3.ask("PUT", &key, &[], &body));
        assert_eq!((answer.status, answer.header("etag")), (200, Some(&*tag_of(&body))), "{}", answer.text());
        tries += usize::from(again);
        assert!(s3.bytes(&key) == body);
    }
    // both small disks are known to be full after that
    assert!(tries <= 2, "{tries} objects were refused at first");
    let upload = s3.begin("/bucket/parts", &[]);
    let parts: Vec<String> =
        (1..=3).map(|n| s3.put_part("/bucket/parts", &upload, n, &value(9, LARGE))).collect();
    let done = s3.complete("/bucket/parts", &upload, &parts);
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(xml::text(&done.text(), "ETag").is_some());
    assert!(s3.bytes("/bucket/parts") == value(9, LARGE).repeat(3));
    for small in &volumes[..2] {
        assert!(small.files().iter().all(|(_, bytes)| bytes.len() < LARGE));
    }
}

#[test]
fn a_volume_that_has_room_again_gets_values_again() {
    let Some(Store { s3, volumes, disks, .. }) = &store() else { return };
    let filler = disks[0].dir().join("body_temp/filler");
    // to the last byte: the write fails
    fs::write(&filler, vec![0; 8 << 20]).unwrap_err();
    let has_any = |volume: &Volume| !volume.paths().is_empty();
    let mut n = 0;
    let mut put = || {
        n += 1;
        s3.put(&format!("/bucket/{n}"), b"value");
    };
    (0..20).for_each(|_| put());
    assert!(!has_any(&volumes[0]) && volumes[1..].iter().all(has_any));
    fs::remove_file(&filler).unwrap();
    eventually("the volume is used again", PATIENCE, || {
        put();
        has_any(&volumes[0])
    });
}
