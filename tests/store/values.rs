//! Overwrites, and reads through the master.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use davkv::error::Error;
use davkv::key::Key;
use davkv::record::Replica;
use davkv::store::{Incoming, Precondition};
use http_body_util::Full;

use crate::common::Order;
use crate::rig::{Rig, path_of, whole};

const READER_GRACE: Duration = Duration::from_mins(1);

/// Long enough for several pieces.
fn long() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect()
}

#[test]
fn an_overwrite_replaces_the_value_and_its_headers() {
    let rig = Rig::new(Duration::ZERO, false);
    let first = rig.replace(b"one", Precondition::Absent).unwrap();
    assert_eq!(rig.read(None).unwrap(), b"one");
    assert_eq!(first.headers, [("content-type".to_owned(), "a/b".to_owned())]);
    let second = rig.replace(&long(), Precondition::Tagged(first.tag())).unwrap();
    assert_eq!(rig.read(None).unwrap(), long());
    assert_eq!(rig.files().len(), 3, "only the files of the second value");
    assert!(matches!(rig.replace(b"x", Precondition::Tagged(first.tag())), Err(Error::Changed)));
    assert!(matches!(rig.replace(b"x", Precondition::Absent), Err(Error::Exists)));
    assert_eq!(rig.runtime.block_on(rig.store().stat(&rig.key)).unwrap(), second);
    assert!(matches!(rig.remove(Precondition::Tagged(first.tag())), Err(Error::Changed)));
    rig.remove(Precondition::Tagged(second.tag())).unwrap();
    assert!(matches!(rig.read(None), Err(Error::NotFound)));
    assert_eq!(rig.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_value_may_be_empty() {
    let rig = Rig::new(Duration::ZERO, false);
    assert_eq!(rig.replace(b"", Precondition::Always).unwrap().size, Some(0));
    assert_eq!(rig.read(None).unwrap(), b"");
    assert_eq!(rig.files().len(), 3);
    rig.remove(Precondition::Always).unwrap();
    assert_eq!(rig.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_write_that_is_refused_at_its_end_keeps_the_old_value() {
    let rig = Rig::new(Duration::ZERO, false);
    rig.replace(b"one", Precondition::Always).unwrap();
    let replace = |length, body: &'static [u8]| {
        let upload = Incoming { body: Full::new(Bytes::from_static(body)), length, md5: None };
        let finish = |_| Err(Error::WrongMd5);
        rig.runtime.block_on(rig.store().replace(&rig.key, upload, Precondition::Always, finish))
    };
    assert!(matches!(replace(Some(3), b"two"), Err(Error::WrongMd5)));
    assert!(matches!(replace(Some(3), b""), Err(Error::CutShort)));
    assert_eq!(rig.read(None).unwrap(), b"one");
    assert_eq!(rig.files().len(), 3);
}

/// Replaced files are kept for their readers, but their number is bounded so that writes are still possible.
#[test]
fn a_key_that_is_overwritten_often_stays_writable() {
    let rig = Rig::new(READER_GRACE, false);
    for number in 0..200_u32 {
        rig.replace(&number.to_le_bytes(), Precondition::Always).unwrap();
    }
    assert_eq!(rig.read(None).unwrap(), 199_u32.to_le_bytes());
    rig.remove(Precondition::Always).unwrap();
}

#[test]
fn a_protected_value_is_not_overwritten() {
    let rig = Rig::new(Duration::ZERO, true);
    rig.replace(b"one", Precondition::Always).unwrap();
    assert!(matches!(rig.replace(b"two", Precondition::Always), Err(Error::Protected)));
    // the refusal comes before the body is read, which is shorter than announced
    let upload = Incoming { body: Full::new(Bytes::new()), length: Some(3), md5: None };
    let replaced = rig.store().replace(&rig.key, upload, Precondition::Always, |_| Ok(Vec::new()));
    assert!(matches!(rig.runtime.block_on(replaced), Err(Error::Protected)));
    assert_eq!(rig.read(None).unwrap(), b"one");
}

#[test]
fn any_range_can_be_read() {
    let rig = Rig::new(Duration::ZERO, false);
    let value = long();
    rig.replace(&value, Precondition::Always).unwrap();
    let end = value.len() as u64;
    for part in [0..1, 0..end, 1..end, end - 1..end, 1_000_000..2_000_001, 5..5] {
        let [from, to] = [part.start, part.end].map(|at| usize::try_from(at).unwrap());
        assert!(rig.read(Some(part.clone())).unwrap() == value[from..to], "{part:?}");
    }
}

#[test]
fn a_read_continues_at_another_volume_after_a_failure_midway() {
    let rig = Rig::new(Duration::ZERO, false);
    rig.replace(&long(), Precondition::Always).unwrap();
    for gate in &rig.gates[..2] {
        gate.order("GET", Order::HalfAnswer);
    }
    assert!(rig.read(None).unwrap() == long());
    assert!(rig.read(Some(7..2_999_999)).unwrap() == long()[7..2_999_999]);
    rig.gates[2].order("GET", Order::HalfAnswer);
    assert!(matches!(rig.read(None), Err(Error::Unreachable)));
}

#[test]
fn torn_replicas_are_skipped_and_all_torn_is_damage() {
    let rig = Rig::new(Duration::ZERO, false);
    rig.replace(b"whole", Precondition::Always).unwrap();
    let files = rig.files();
    std::fs::write(&files[0], b"").unwrap();
    std::fs::write(&files[1], b"who").unwrap();
    for _ in 0..10 {
        assert_eq!(rig.read(None).unwrap(), b"whole");
        assert_eq!(rig.read(Some(4..5)).unwrap(), b"e");
    }
    std::fs::remove_file(&files[2]).unwrap();
    assert!(matches!(rig.read(None), Err(Error::Damaged)));
    assert!(matches!(rig.read(Some(4..5)), Err(Error::Damaged)));
}

/// nginx says 500 where a directory can't be written to, as where a disk is full.
#[test]
fn a_volume_with_a_damaged_directory_takes_the_next_value_of_another_one() {
    let rig = Rig::with(4, |_| ());
    let placement = &rig.store().options().placement;
    let first = placement.rank(&rig.key)[0].volume().to_owned();
    let directory = &path_of(&rig.key)["/".len()..][.."m0/m1/".len()];
    rig.gate(&first).order_for("PUT", directory, Order::Answer(500));
    let is_there = |replicas: &[Replica]| replicas.iter().any(|replica| replica.place.volume() == first);
    assert!(!is_there(&rig.replace(b"one", Precondition::Always).unwrap().replicas));
    // nor is it asked for the same directory again
    assert!(!is_there(&rig.replace(b"two", Precondition::Always).unwrap().replicas));
    let asked = rig.gate(&first).requests().iter().filter(|(method, ..)| method == "PUT").count();
    assert_eq!(asked, 1);
    let keys = (0..).map(|number| Key::new(format!("/bucket/{number}").as_bytes()));
    let mut goes_there = keys.filter(|key| placement.wanted(key).iter().any(|place| place.volume() == first));
    let other = goes_there.find(|key| !path_of(key).contains(directory)).unwrap();
    let stored = rig.store().replace(&other, whole(b"three"), Precondition::Always, |_| Ok(Vec::new()));
    assert!(is_there(&rig.runtime.block_on(stored).unwrap().replicas));
}
