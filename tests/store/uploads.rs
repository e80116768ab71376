//! Uploads in parts, and values made of pieces of others.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use davkv::error::{Error, Result};
use davkv::index::notes::Note;
use davkv::key::Key;
use davkv::record::{Headers, Record};
use davkv::store::{Incoming, Piece, Precondition, Received, Spliced};
use md5::{Digest as _, Md5};

use crate::common::{Gate, Order, Stage, eventually};
use crate::rig::{Rig, path_of, whole};

/// Deadline for background work.
const SOON: Duration = Duration::from_secs(20);

/// Five parts of this size are several pieces each.
const PART: u32 = 1_200_000;

fn parts() -> Vec<Vec<u8>> {
    let part = |number: u32| (0..PART).map(|n| ((n * 7 + number) % 251).to_le_bytes()[0]).collect();
    (0..5).map(part).collect()
}

fn rig() -> Rig {
    Rig::new(Duration::ZERO, false)
}

#[track_caller]
fn assert_only_the_value_is_left(rig: &Rig) {
    eventually("only the value's files are left", SOON, || rig.files().len() == 3);
    assert!(rig.read(None).unwrap() == parts().concat());
}

#[test]
fn parts_become_one_value() {
    let rig = rig();
    let upload = rig.uploaded(&parts());
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let tap = {
        let seen = Arc::clone(&seen);
        move |bytes: &Bytes| seen.lock().unwrap().extend_from_slice(bytes)
    };
    let md5: [u8; 16] = Md5::digest(parts().concat()).into();
    let headers = vec![("content-type".to_owned(), "c/d".to_owned())];
    let finish = {
        let (seen, headers) = (Arc::clone(&seen), headers.clone());
        move |received: Received| {
            assert_eq!(received, Received { size: 5 * u64::from(PART), md5: Some(md5) });
            assert!(*seen.lock().unwrap() == parts().concat(), "the observer has seen all bytes");
            Ok(headers)
        }
    };
    let listed = rig.parts(upload).unwrap();
    let completed = rig.store().complete_upload(&rig.key, upload, listed, Precondition::Absent, tap, finish);
    let record = rig.runtime.block_on(completed).unwrap();
    assert_eq!((record.size, record.md5, &record.headers), (Some(5 * u64::from(PART)), Some(md5), &headers));
    assert_eq!(rig.runtime.block_on(rig.store().stat(&rig.key)).unwrap(), record);
    assert_only_the_value_is_left(&rig);
}

#[test]
fn an_upload_continues_after_a_restart() {
    let mut rig = rig();
    let headers = vec![("content-type".to_owned(), "c/d".to_owned())];
    let begun = rig.store().begin_upload(&rig.key, headers.clone());
    let upload = rig.runtime.block_on(begun).unwrap();
    for (number, part) in (1..).zip(&parts()[..2]) {
        rig.put_part(upload, number, part).unwrap();
    }
    rig.restart(async |_| ());
    for (number, part) in (3..).zip(&parts()[2..]) {
        rig.put_part(upload, number, part).unwrap();
    }
    rig.restart(async |_| ());
    assert_eq!(rig.upload(&rig.key, upload).unwrap().headers, headers);
    let page = |start, most| rig.runtime.block_on(rig.store().parts(&rig.key, upload, start, most)).unwrap();
    let numbers = |(parts, next): (Vec<(u16, Record)>, _)| {
        (parts.into_iter().map(|(number, _)| number).collect::<Vec<_>>(), next)
    };
    assert_eq!(numbers(page(1, 2)), (vec![1, 2], Some(3)));
    assert_eq!(numbers(page(3, 3)), (vec![3, 4, 5], None));
    assert_eq!(numbers(page(6, 3)), (vec![], None));
    let uploads = rig.runtime.block_on(rig.store().uploads(b"/bucket/", None)).unwrap().rows;
    assert_eq!(uploads.len(), 1);
    assert_eq!((&uploads[0].0, uploads[0].1, &uploads[0].2.headers), (&rig.key, upload, &headers));
    rig.complete(upload, Precondition::Always).unwrap();
    assert_only_the_value_is_left(&rig);
}

#[test]
fn a_part_can_be_replaced() {
    let rig = rig();
    let upload = rig.uploaded(&parts());
    let before = rig.parts(upload).unwrap();
    rig.put_part(upload, 2, b"something else").unwrap();
    assert_eq!(rig.files().len(), 3 * 5);
    assert!(matches!(rig.complete_with(upload, before, Precondition::Always), Err(Error::Busy)));
    rig.put_part(upload, 2, &parts()[1]).unwrap();
    rig.complete(upload, Precondition::Always).unwrap();
    assert_only_the_value_is_left(&rig);
}

#[test]
fn parts_may_be_empty_and_arrive_in_any_order() {
    let rig = rig();
    let upload = rig.begin();
    for (number, part) in [(9, b"".as_slice()), (10_000, b"end"), (2, b"begin, ")] {
        rig.put_part(upload, number, part).unwrap();
    }
    rig.complete(upload, Precondition::Always).unwrap();
    assert_eq!(rig.read(None).unwrap(), b"begin, end");
    let upload = rig.uploaded(&[Vec::new()]);
    assert_eq!(rig.complete(upload, Precondition::Always).unwrap().size, Some(0));
    assert_eq!(rig.read(None).unwrap(), b"");
}

#[test]
fn a_refused_completion_leaves_the_upload_unchanged() {
    let rig = rig();
    let first = rig.replace(b"first", Precondition::Always).unwrap();
    let upload = rig.uploaded(&parts());
    assert!(matches!(rig.complete(upload, Precondition::Absent), Err(Error::Exists)));
    assert!(matches!(rig.complete(upload, Precondition::Tagged("other".into())), Err(Error::Changed)));
    let listed = rig.parts(upload).unwrap();
    let finish = |_| Err(Error::WrongMd5);
    let completed =
        rig.store().complete_upload(&rig.key, upload, listed, Precondition::Always, |_| (), finish);
    assert!(matches!(rig.runtime.block_on(completed), Err(Error::WrongMd5)));
    assert_eq!(rig.read(None).unwrap(), b"first");
    rig.complete(upload, Precondition::Tagged(first.tag())).unwrap();
    assert_only_the_value_is_left(&rig);
}

#[test]
fn a_protected_value_is_kept_and_parts_are_not_protected() {
    let rig = Rig::new(Duration::ZERO, true);
    rig.replace(b"first", Precondition::Always).unwrap();
    let upload = rig.uploaded(&parts());
    rig.put_part(upload, 1, &parts()[0]).unwrap();
    assert!(matches!(rig.complete(upload, Precondition::Always), Err(Error::Protected)));
    rig.abort(upload).unwrap();
    eventually("only the value's files are left", SOON, || rig.files().len() == 3);
    assert_eq!(rig.read(None).unwrap(), b"first");
}

#[test]
fn an_upload_that_has_ended_is_unknown() {
    let rig = rig();
    let other = rig.begin();
    let upload = rig.uploaded(&parts());
    rig.abort(upload).unwrap();
    eventually("the upload's parts are deleted", SOON, || rig.files().is_empty());
    for upload in [upload, other + 1000] {
        assert!(matches!(rig.upload(&rig.key, upload), Err(Error::NoUpload)));
        assert!(matches!(rig.parts(upload), Err(Error::NoUpload)));
        assert!(matches!(rig.put_part(upload, 1, b"late"), Err(Error::NoUpload)));
        assert!(matches!(rig.complete_with(upload, Vec::new(), Precondition::Always), Err(Error::NoUpload)));
        assert!(matches!(rig.abort(upload), Err(Error::NoUpload)));
    }
    let other_key = Key::new(b"/bucket/other");
    assert!(matches!(rig.upload(&other_key, other), Err(Error::NoUpload)));
    assert_eq!(rig.files(), Vec::<PathBuf>::new());
}

#[test]
fn parts_cannot_be_written_as_keys() {
    let rig = rig();
    let upload = rig.uploaded(&parts()[..1]);
    let part = Key::part(upload, 1);
    rig.runtime.block_on(async {
        let store = rig.store();
        assert!(matches!(store.put(&part, whole(b"x")).await, Err(Error::InvalidKey(_))));
        let replaced = store.replace(&part, whole(b"x"), Precondition::Always, |_| Ok(Headers::new())).await;
        assert!(matches!(replaced, Err(Error::InvalidKey(_))));
        assert!(matches!(store.begin_upload(&part, Headers::new()).await, Err(Error::InvalidKey(_))));
    });
}

#[test]
fn a_completion_survives_a_volume_that_fails_midway() {
    let rig = Rig::with(4, |_| ());
    let upload = rig.uploaded(&parts());
    let [worst, best] =
        [2, 0].map(|rank| rig.store().options().placement.rank(&rig.key)[rank].volume().to_owned());
    rig.gate(&worst).order_for("PUT", &path_of(&rig.key), Order::CutAfter(3_000_000));
    rig.gate(&best).order_for("GET", "", Order::HalfAnswer);
    let record = rig.complete(upload, Precondition::Always).unwrap();
    assert!(record.replicas.iter().all(|replica| replica.place.volume() != worst));
    rig.gates.iter().for_each(Gate::open);
    assert_only_the_value_is_left(&rig);
}

/// Asserts that the completion fails as expected and changes nothing, and that it succeeds after the volumes
/// recover.
#[track_caller]
fn assert_fails_and_can_be_repeated(rig: &Rig, upload: u64, is_expected: impl Fn(&Error) -> bool) {
    let failed = rig.complete(upload, Precondition::Always).unwrap_err();
    assert!(is_expected(&failed), "{failed}");
    assert_eq!(rig.parts(upload).unwrap().len(), 5);
    rig.gates.iter().for_each(Gate::open);
    assert_eq!(rig.read(None).unwrap(), b"first");
    eventually("the upload can be completed", SOON, || rig.complete(upload, Precondition::Always).is_ok());
    assert_only_the_value_is_left(rig);
}

#[test]
fn a_completion_that_too_few_volumes_take_can_be_repeated() {
    let rig = rig();
    rig.replace(b"first", Precondition::Always).unwrap();
    let upload = rig.uploaded(&parts());
    rig.gates[1].order_for("PUT", &path_of(&rig.key), Order::CutAfter(3_000_000));
    assert_fails_and_can_be_repeated(&rig, upload, |error| matches!(error, Error::TooFewVolumes { .. }));
}

#[test]
fn a_completion_whose_parts_are_unreachable_says_so_and_can_be_repeated() {
    let rig = rig();
    rig.replace(b"first", Precondition::Always).unwrap();
    let upload = rig.uploaded(&parts());
    for gate in &rig.gates {
        gate.order_for("GET", &path_of(&Key::part(upload, 4)), Order::HalfAnswer);
    }
    assert_fails_and_can_be_repeated(&rig, upload, |error| matches!(error, Error::Unreachable));
}

#[test]
fn a_completion_of_damaged_parts_says_so() {
    let rig = rig();
    rig.replace(b"first", Precondition::Always).unwrap();
    let upload = rig.uploaded(&parts());
    let part = path_of(&Key::part(upload, 3));
    let damaged: Vec<_> =
        rig.files().into_iter().filter(|file| file.to_str().unwrap().contains(&part)).collect();
    assert_eq!(damaged.len(), 3);
    for file in &damaged[1..] {
        fs::write(file, b"torn").unwrap();
    }
    let kept = fs::read(&damaged[0]).unwrap();
    fs::remove_file(&damaged[0]).unwrap();
    assert!(matches!(rig.complete(upload, Precondition::Always), Err(Error::Damaged)));
    assert_eq!(rig.read(None).unwrap(), b"first");
    fs::write(&damaged[0], kept).unwrap();
    rig.complete(upload, Precondition::Always).unwrap();
    assert_only_the_value_is_left(&rig);
}

/// Starts a completion, and waits until all volumes hold its bytes while their answers are held back.
fn held_completion(rig: &Rig, upload: u64) -> tokio::task::JoinHandle<Result<Record>> {
    for gate in &rig.gates {
        gate.order_for("PUT", &path_of(&rig.key), Order::HoldAnswer);
    }
    let listed = rig.parts(upload).unwrap();
    let completion = rig.completion(upload, listed, Precondition::Always);
    let held = || rig.gates.iter().all(|gate| gate.count("PUT", Stage::AnswerHeld) == 1);
    eventually("all volumes have the value", SOON, held);
    rig.gates.iter().for_each(Gate::open);
    completion
}

fn release(rig: &Rig) {
    rig.gates.iter().for_each(Gate::release);
}

#[test]
fn readers_see_the_old_value_until_the_new_one_is_whole() {
    let rig = rig();
    rig.replace(b"first", Precondition::Always).unwrap();
    let upload = rig.uploaded(&parts());
    let completion = held_completion(&rig, upload);
    assert_eq!(rig.read(None).unwrap(), b"first");
    assert_eq!(rig.parts(upload).unwrap().len(), 5);
    release(&rig);
    rig.runtime.block_on(completion).unwrap().unwrap();
    assert_only_the_value_is_left(&rig);
}

#[test]
fn a_completion_continues_without_its_client() {
    let rig = rig();
    let upload = rig.uploaded(&parts());
    let completion = held_completion(&rig, upload);
    completion.abort();
    assert!(rig.runtime.block_on(completion).unwrap_err().is_cancelled());
    release(&rig);
    eventually("the value is stored", SOON, || rig.read(None).is_ok());
    assert_only_the_value_is_left(&rig);
}

#[test]
fn of_two_completions_exactly_one_succeeds() {
    let rig = rig();
    let upload = rig.uploaded(&parts());
    let completion = held_completion(&rig, upload);
    rig.complete(upload, Precondition::Always).unwrap();
    release(&rig);
    assert!(matches!(rig.runtime.block_on(completion).unwrap(), Err(Error::NoUpload)));
    assert_only_the_value_is_left(&rig);
}

#[test]
fn an_abort_at_the_last_moment_wins() {
    let rig = rig();
    rig.replace(b"first", Precondition::Always).unwrap();
    let upload = rig.uploaded(&parts());
    let completion = held_completion(&rig, upload);
    rig.abort(upload).unwrap();
    release(&rig);
    assert!(matches!(rig.runtime.block_on(completion).unwrap(), Err(Error::NoUpload)));
    eventually("only the value's files are left", SOON, || rig.files().len() == 3);
    assert_eq!(rig.read(None).unwrap(), b"first");
}

/// It deletes the parts that the completion hasn't read yet.
#[test]
fn an_abort_in_the_middle_of_a_completion_wins() {
    let rig = rig();
    let upload = rig.uploaded(&parts());
    for gate in &rig.gates {
        gate.order_for("GET", &path_of(&Key::part(upload, 2)), Order::HoldAnswer);
    }
    let completion = rig.completion(upload, rig.parts(upload).unwrap(), Precondition::Always);
    let held = || rig.gates.iter().any(|gate| gate.count("GET", Stage::AnswerHeld) == 1);
    eventually("a part is being read", SOON, held);
    rig.abort(upload).unwrap();
    eventually("the parts are deleted", SOON, || rig.files().is_empty());
    release(&rig);
    assert!(matches!(rig.runtime.block_on(completion).unwrap(), Err(Error::NoUpload)));
    assert_eq!(rig.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_part_whose_upload_ends_before_it_leaves_nothing() {
    let rig = rig();
    let upload = rig.begin();
    for gate in &rig.gates {
        gate.order("PUT", Order::HoldAnswer);
    }
    let put = {
        let (store, key) = (rig.store().clone(), rig.key.clone());
        let put =
            async move { store.put_part(&key, upload, 1, whole(b"part"), |_| Ok(Headers::new())).await };
        rig.runtime.spawn(put)
    };
    let held = || rig.gates.iter().all(|gate| gate.count("PUT", Stage::AnswerHeld) == 1);
    eventually("all volumes have the part", SOON, held);
    rig.abort(upload).unwrap();
    release(&rig);
    assert!(matches!(rig.runtime.block_on(put).unwrap(), Err(Error::NoUpload)));
    assert_eq!(rig.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_restart_deletes_only_the_parts_of_uploads_that_have_ended() {
    let mut rig = rig();
    let (kept, ended) = (rig.uploaded(&parts()), rig.uploaded(&parts()));
    let note = Note::Upload(rig.key.clone(), ended);
    rig.restart(async |index| assert!(index.end_note(&note).await.unwrap()));
    eventually("the parts of the ended upload are deleted", SOON, || rig.files().len() == 3 * 5);
    rig.complete(kept, Precondition::Always).unwrap();
    assert_only_the_value_is_left(&rig);
}

#[test]
fn uploads_expire() {
    let expiry = Duration::from_secs(1);
    let often = Duration::from_millis(50);
    let rig = Rig::with(3, |options| (options.upload_expiry, options.sweep_every) = (expiry, often));
    let upload = rig.begin();
    rig.put_part(upload, 1, b"part").unwrap();
    eventually("the upload has expired", SOON, || rig.upload(&rig.key, upload).is_err());
    eventually("the part is deleted", SOON, || rig.files().is_empty());
    assert!(matches!(rig.upload(&rig.key, upload), Err(Error::NoUpload)));
}

/// Pieces of the rig's value, as ranges of bytes.
fn spliced(rig: &Rig, pieces: &[(u64, u64)]) -> Incoming<Spliced> {
    let record = rig.runtime.block_on(rig.store().record(&rig.key)).unwrap();
    let piece =
        |&(from, to): &(u64, u64)| Piece { key: rig.key.clone(), record: record.clone(), part: from..to };
    let body = rig.store().splice(pieces.iter().map(piece).collect(), |_| ());
    Incoming { length: Some(body.left()), body, md5: None }
}

#[test]
fn a_value_is_made_of_pieces_of_others() {
    let rig = rig();
    let value = parts().concat();
    rig.replace(&value, Precondition::Always).unwrap();
    let body = spliced(&rig, &[(10, 3_000_000), (5, 5), (0, 10)]);
    let upload = rig.begin();
    let put = rig.store().put_part(&rig.key, upload, 1, body, |_| Ok(Headers::new()));
    rig.runtime.block_on(put).unwrap();
    rig.complete(upload, Precondition::Always).unwrap();
    assert!(rig.read(None).unwrap() == [&value[10..3_000_000], &value[..10]].concat());
    // replaces the value of which it is a piece
    let body = spliced(&rig, &[(1, 2_000_000)]);
    let replaced = rig.store().replace(&rig.key, body, Precondition::Always, |_| Ok(Headers::new()));
    rig.runtime.block_on(replaced).unwrap();
    assert!(rig.read(None).unwrap() == value[11..2_000_010]);
}

#[test]
fn a_value_made_of_unreadable_pieces_fails_with_their_error() {
    let rig = rig();
    rig.replace(&parts().concat(), Precondition::Always).unwrap();
    let copy = |body| {
        let key = Key::new(b"/bucket/copy");
        let replaced = rig.store().replace(&key, body, Precondition::Always, |_| Ok(Headers::new()));
        rig.runtime.block_on(replaced)
    };
    let outdated = spliced(&rig, &[(0, 10)]);
    rig.replace(&parts().concat(), Precondition::Always).unwrap();
    assert!(matches!(copy(outdated), Err(Error::Changed)));
    let removed = spliced(&rig, &[(0, 10)]);
    for gate in &rig.gates {
        gate.order("GET", Order::HalfAnswer);
    }
    assert!(matches!(copy(spliced(&rig, &[(0, 3_000_000)])), Err(Error::Unreachable)));
    rig.gates.iter().for_each(Gate::open);
    for file in rig.files() {
        fs::write(file, b"torn").unwrap();
    }
    assert!(matches!(copy(spliced(&rig, &[(0, 10)])), Err(Error::Damaged)));
    rig.remove(Precondition::Always).unwrap();
    assert!(matches!(copy(removed), Err(Error::Changed)));
    assert_eq!(rig.files(), Vec::<PathBuf>::new());
}
