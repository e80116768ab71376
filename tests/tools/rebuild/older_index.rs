//! Rebuilds with an older index beside the volumes, and with something in the place of the new one.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use davkv::key::Name;
use md5::{Digest as _, Md5};

use crate::rig::{Random, Rig, contents, key};

#[test]
fn keys_of_the_older_index_that_are_on_no_volume_are_reported() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.expect("PUT", &key("/lost"), b"value", 201);
    rig.expect("PUT", &key("/kept"), b"value", 201);
    rig.end_master();
    for rank in 0..3 {
        let lost = rig.replica(&key("/lost"), rank, Name::Plain);
        fs::remove_file(rig.file(&rig.stored(&key("/lost"), &lost))).unwrap();
    }
    let ended = rig.rebuild(&rig.path("rebuilt"), &["--from", rig.db().to_str().unwrap()]);
    ended.assert_done();
    assert_eq!(ended.err, "in the older index, and on no volume: /lost\n");
    assert_eq!((ended.figure("lost"), ended.figure("objects")), (1, 1));
}

/// The copy of the index is older than the value, which has replaced another of the same size.
#[test]
fn the_md5_of_an_older_value_is_not_kept_for_a_newer_one() {
    let mut rig = Rig::new(3);
    let one = key("/key");
    rig.serve(&[]);
    rig.expect("PUT", &one, b"older", 201);
    rig.end_master();
    let old = rig.path("old");
    fs::rename(rig.db(), &old).unwrap();
    for rank in 0..3 {
        let newer = rig.lay(&one, rank, Name::Plain, b"newer");
        let later = SystemTime::now() + Duration::from_secs(1000);
        File::options().append(true).open(rig.file(&newer)).unwrap().set_modified(later).unwrap();
    }
    rig.rebuild(&rig.db(), &["--from", old.to_str().unwrap()]).assert_done();
    let md5 = contents(&rig.db()).records[&one].md5;
    assert_ne!(md5, Some(Md5::digest(b"older").into()));
}

#[test]
fn an_older_index_in_use_is_refused() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    let ended = rig.rebuild(&rig.path("rebuilt"), &["--from", rig.db().to_str().unwrap()]);
    ended.assert_one_line(1, "in use");
    assert!(!rig.path("rebuilt").exists());
}

#[test]
fn an_older_index_that_is_missing_is_refused() {
    let rig = Rig::new(3);
    let ended = rig.rebuild(&rig.db(), &["--from", rig.path("nowhere").to_str().unwrap()]);
    ended.assert_one_line(1, "nowhere");
    assert!(!rig.db().exists() && !rig.path("nowhere").exists());
}

#[test]
fn an_existing_index_is_not_overwritten() {
    let mut rig = Rig::new(3);
    rig.fill(6, &mut Random::new());
    let before = contents(&rig.db());
    rig.rebuild(&rig.db(), &[]).assert_one_line(1, "overwrites nothing");
    assert_eq!(contents(&rig.db()), before);
}

#[test]
fn a_file_in_the_place_of_the_index_is_not_overwritten() {
    let rig = Rig::new(3);
    fs::write(rig.db(), "mine").unwrap();
    let ended = rig.rebuild(&rig.db(), &[]);
    assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 1), "{ended:?}");
    assert_eq!(fs::read(rig.db()).unwrap(), b"mine");
}

#[test]
fn an_index_in_a_missing_directory_is_refused() {
    let rig = Rig::new(3);
    rig.rebuild(&rig.path("missing/db"), &[]).assert_one_line(1, "missing/db");
}
