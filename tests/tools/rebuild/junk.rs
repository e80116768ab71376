//! Files that are not values are reported and left alone.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;

use davkv::key::Name;

use crate::rig::{Rig, contents, key, lay};

/// Asserts that these files on a volume, beside a value, are reported and not changed.
#[track_caller]
fn assert_junk(paths: &[OsString], shown: &[&str]) {
    let rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    for path in paths {
        lay(&rig.volumes[0].dir().join(path), b"junk");
    }
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    let mut lines: Vec<_> = ended.err.lines().map(str::to_owned).collect();
    lines.sort();
    let mut expected: Vec<_> =
        shown.iter().map(|path| format!("junk, left alone: {}/{path}", rig.addresses()[0])).collect();
    expected.sort();
    assert_eq!(lines, expected);
    assert_eq!(ended.figure("junk"), shown.len() as u64);
    assert_eq!(contents(&rig.db()).records.keys().collect::<Vec<_>>(), [&key("/key")]);
    for path in paths {
        assert_eq!(fs::read(rig.volumes[0].dir().join(path)).unwrap(), b"junk");
    }
}

#[track_caller]
fn assert_all_junk(paths: &[&str]) {
    assert_junk(&paths.iter().map(OsString::from).collect::<Vec<_>>(), paths);
}

#[test]
fn names_that_are_not_base64_are_junk() {
    assert_all_junk(&["sv00/aa/bb/not base64", "sv00/aa/bb/L2tl*", "sv00/aa/bb/README.txt", "sv03/aa/bb/~"]);
}

#[test]
fn names_in_the_wrong_directory_are_junk() {
    // base64 of "/key", whose directory is 1a/f7
    assert_all_junk(&["sv00/aa/bb/L2tleQ==", "sv00/aa/bb/L2tleQ", "aa/bb/L2tleQ==", "sv00/L2tleQ=="]);
}

#[test]
fn invalid_generation_names_are_junk() {
    let path = |tail: &str| format!("sv00{}{tail}", &key("/key").path(Name::Plain).replace("L2tleQ==", ""));
    let paths = [
        path("L2tleQ==,1"),
        path("L2tleQ==,000000000000000G"),
        path("L2tleQ==,000000000000000F"),
        path("L2tleQ==,0000000000000001,"),
        path(",0000000000000001"),
    ];
    assert_all_junk(&paths.each_ref().map(String::as_str));
}

#[test]
fn temporary_names_of_nginx_are_junk() {
    assert_all_junk(&["sv00/aa/bb/0000000012", "sv00/aa/bb/L2tleQ==.0000000012", "0000000012"]);
}

#[test]
fn files_beside_the_layout_are_junk() {
    assert_all_junk(&["file", "sv00/file", "sv00/aa/file", "sv00/aa/bb/L2/nested/file"]);
}

/// A directory that can't hold values is not listed.
#[test]
fn directories_beside_the_layout_are_junk_as_a_whole() {
    let paths =
        ["lost+found/deep/file", "svXX/file", "sv00/AA/file", "sv00/aa/b/file", "sv00/aa/bb/a b/file"];
    let shown = ["lost+found", "svXX", "sv00/AA", "sv00/aa/b", "sv00/aa/bb/a b"];
    assert_junk(&paths.map(OsString::from), &shown);
}

#[test]
fn names_that_are_not_utf8_are_junk() {
    let paths = [b"sv00/aa/bb/\xff\xfe".to_vec(), b"sv00/aa/bb/dir\xff/file".to_vec(), b"\xff".to_vec()];
    let shown = ["sv00/aa/bb/\u{fffd}\u{fffd}", "sv00/aa/bb/dir\u{fffd}", "\u{fffd}"];
    assert_junk(&paths.map(OsString::from_vec), &shown);
}

#[test]
fn names_that_would_break_a_terminal_or_the_listing_are_junk() {
    let paths =
        ["sv00/aa/bb/a\u{1b}[31m", "sv00/aa/bb/new\nline", "sv00/aa/bb/\"},{", "sv00/aa/bb/back\\slash"];
    let shown = [
        "sv00/aa/bb/a\\u{1b}[31m",
        "sv00/aa/bb/new\\nline",
        "sv00/aa/bb/\\\"},{",
        "sv00/aa/bb/back\\\\slash",
    ];
    assert_junk(&paths.map(OsString::from), &shown);
}

#[test]
fn the_volumes_internal_files_are_not_reported() {
    let rig = Rig::new(3);
    lay(&rig.volumes[0].dir().join("body_temp/0000000001"), b"half a value");
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!(ended.err, "");
}

#[test]
fn symbolic_links_and_special_files_do_no_harm() {
    let rig = Rig::new(3);
    let dir = rig.volumes[0].dir().join("sv00/aa/bb");
    fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink("/nonexistent", dir.join("dangling")).unwrap();
    std::os::unix::fs::symlink(rig.volumes[0].dir(), dir.join("loop")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap());
    let ended = rig.rebuild(&rig.db(), &[]);
    ended.assert_done();
    assert_eq!(ended.figure("objects"), 0);
}
