//! The promises that every engine keeps. Each test runs on LevelDB in both of its ways to write (at once, and
//! several writes in one batch with an fsync), and on the simulated engine that the store's model uses.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on panics")]

mod facts;
mod scans;

use std::sync::Arc;

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::clock::Timestamp;
use crate::error::Error;
use crate::index::notes::{Note, Notes};
use crate::index::simulated::{Calm, Simulated};
use crate::index::steps::{
    Conditions, Done, Effect, MAX_INTENTS, Precondition, RequiredNote, Resolved, Surplus,
};
use crate::index::{Entry, Index, Options};
use crate::key::{Key, Name};
use crate::placement::Place;
use crate::record::{Intent, Record, Replica, State};

/// Runs the test on every engine.
async fn on_every_engine(test: impl AsyncFn(&Index)) {
    for sync in [false, true] {
        let tempdir = TempDir::new().unwrap();
        let options = Options { create: true, cache_bytes: 1 << 20, sync };
        let index = Index::open(&tempdir.path().join("db"), options).unwrap();
        test(&index).await;
        index.close();
    }
    test(&Index::Simulated(Simulated(Arc::new(Calm::default())))).await;
}

fn key() -> Key {
    Key::new(b"/a/key")
}

fn plain(volume: &str) -> Replica {
    Replica { place: Place::new(volume), name: Name::Plain }
}

fn named(volume: &str, number: u64) -> Replica {
    Replica { place: Place::new(volume), name: Name::Generation(number) }
}

fn intent(id: u64, files: &[Replica]) -> Intent {
    Intent { id, files: files.to_vec() }
}

fn record(replicas: &[Replica]) -> Record {
    let (md5, size, modified) = (Some([7; 16]), Some(1), Some(Timestamp::from_millis(2)));
    Record { state: State::Live, replicas: replicas.to_vec(), md5, size, modified, headers: Vec::new() }
}

fn always() -> Conditions {
    Conditions::on(Precondition::Always)
}

fn absent() -> Conditions {
    Conditions::on(Precondition::Absent)
}

fn surplus(id: u64) -> Surplus {
    Surplus { id, forgotten: Vec::new() }
}

#[track_caller]
fn done(effect: Effect) -> Done {
    match effect {
        Effect::Done(done) => done,
        other => panic!("{other:?}"),
    }
}

/// A value of the attempt of that number, in one file on a volume.
async fn stored(index: &Index, id: u64) -> Record {
    let value = record(&[named("a:1", id)]);
    done(index.begin(&key(), intent(id, &value.replicas), always()).await.unwrap());
    done(index.take_effect(&key(), id, value.clone(), always(), surplus(id + 1)).await.unwrap());
    value
}

#[tokio::test]
async fn an_attempt_begins_extends_and_takes_effect() {
    on_every_engine(async |index| {
        let [first, second, failed] = ["a:1", "b:1", "c:1"].map(plain);
        assert_eq!(index.entry(&key()).await.unwrap(), Entry::default());
        let begun = index.begin(&key(), intent(1, &[first.clone(), failed.clone()]), absent()).await.unwrap();
        assert_eq!(done(begun), Done { replaced: None, intents: 1 });
        assert_eq!(index.look(&key()).await.unwrap(), None, "nothing is visible yet");
        done(index.extend(&key(), intent(1, std::slice::from_ref(&second))).await.unwrap());
        let intents = index.entry(&key()).await.unwrap().intents;
        assert_eq!(intents, [intent(1, &[first.clone(), failed.clone(), second.clone()])]);

        let value = record(&[first, second]);
        let took = index.take_effect(&key(), 1, value.clone(), absent(), surplus(2)).await.unwrap();
        assert_eq!(done(took), Done { replaced: None, intents: 1 });
        let expected = Entry { record: Some(value), intents: vec![intent(1, &[failed])] };
        assert_eq!(index.entry(&key()).await.unwrap(), expected, "what failed is still named");
    })
    .await;
}

#[tokio::test]
async fn a_value_that_is_replaced_is_handed_back_and_its_files_get_an_intent() {
    on_every_engine(async |index| {
        let old = stored(index, 1).await;
        let new = record(&[named("a:1", 3), named("b:1", 3)]);
        done(index.begin(&key(), intent(3, &new.replicas), always()).await.unwrap());
        let effect = index.take_effect(&key(), 3, new.clone(), always(), surplus(4)).await.unwrap();
        assert_eq!(done(effect), Done { replaced: Some(old.clone()), intents: 1 });
        let expected = Entry { record: Some(new), intents: vec![intent(4, &old.replicas)] };
        assert_eq!(index.entry(&key()).await.unwrap(), expected);
    })
    .await;
}

/// As a REBALANCE does: the record keeps one file, gets another, and loses a third.
#[tokio::test]
async fn a_record_may_keep_files_and_forgotten_volumes_are_named_no_more() {
    on_every_engine(async |index| {
        let [kept, lost, gone, new] = ["a:1", "b:1", "gone:1", "d:1"].map(|volume| named(volume, 1));
        let old = record(&[kept.clone(), lost.clone(), gone]);
        done(index.begin(&key(), intent(1, &old.replicas), always()).await.unwrap());
        done(index.take_effect(&key(), 1, old.clone(), always(), surplus(2)).await.unwrap());
        let unchanged = || Conditions::on(Precondition::Unchanged(Box::new(old.clone())));
        done(index.begin(&key(), intent(3, std::slice::from_ref(&new)), unchanged()).await.unwrap());
        let moved = record(&[kept, new]);
        let surplus = Surplus { id: 4, forgotten: vec!["gone:1".into()] };
        done(index.take_effect(&key(), 3, moved.clone(), unchanged(), surplus).await.unwrap());
        let expected = Entry { record: Some(moved), intents: vec![intent(4, &[lost])] };
        assert_eq!(index.entry(&key()).await.unwrap(), expected);
    })
    .await;
}

/// Whatever step it is: the record may have changed since the attempt looked, and so may its state.
#[tokio::test]
async fn every_condition_covers_the_record() {
    on_every_engine(async |index| {
        let old = stored(index, 1).await;
        let unchanged = || Conditions::on(Precondition::Unchanged(Box::new(old.clone())));
        let new = record(&[named("b:1", 3)]);
        done(index.begin(&key(), intent(3, &new.replicas), unchanged()).await.unwrap());
        // an UNLINK changes no intent
        done(index.set_state(&key(), State::Unlinked).await.unwrap());
        let before = index.entry(&key()).await.unwrap();
        let refused = index.take_effect(&key(), 3, new.clone(), unchanged(), surplus(4)).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::Changed)), "{refused:?}");
        let live = || Conditions::on(Precondition::Live);
        let refused = index.take_effect(&key(), 3, new.clone(), live(), surplus(4)).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::NotFound)), "{refused:?}");
        let refused = index.remove(&key(), 5, live()).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::NotFound)), "{refused:?}");
        let refused = index.begin(&key(), intent(5, &[named("c:1", 5)]), live()).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::NotFound)), "{refused:?}");
        assert_eq!(index.entry(&key()).await.unwrap(), before, "nothing was written");

        done(index.set_state(&key(), State::Live).await.unwrap());
        for (precondition, error) in
            [(Precondition::Absent, Error::Exists), (Precondition::Tagged("other".into()), Error::Changed)]
        {
            let conditions = Conditions::on(precondition);
            let refused = index.take_effect(&key(), 3, new.clone(), conditions, surplus(4)).await.unwrap();
            let Effect::Refused(refusal) = refused else { panic!("{refused:?}") };
            assert_eq!(refusal.to_string(), error.to_string());
        }
        let protected = Conditions { protect: true, ..always() };
        let refused = index.take_effect(&key(), 3, new.clone(), protected.clone(), surplus(4)).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::Protected)), "{refused:?}");
        let refused = index.remove(&key(), 5, protected).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::Protected)), "{refused:?}");
        let tagged = Conditions::on(Precondition::Tagged(old.tag()));
        done(index.take_effect(&key(), 3, new, tagged, surplus(4)).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn an_attempt_whose_intent_ended_never_takes_effect() {
    on_every_engine(async |index| {
        let value = record(&[named("a:1", 1)]);
        let own = intent(1, &value.replicas);
        done(index.begin(&key(), own.clone(), always()).await.unwrap());
        done(index.end(&key(), own.clone()).await.unwrap());
        let fenced = index.take_effect(&key(), 1, value, always(), surplus(2)).await.unwrap();
        assert!(matches!(fenced, Effect::Fenced), "{fenced:?}");
        let fenced = index.extend(&key(), intent(1, &[named("b:1", 1)])).await.unwrap();
        assert!(matches!(fenced, Effect::Fenced), "{fenced:?}");
        let fenced = index.end(&key(), own).await.unwrap();
        assert!(matches!(fenced, Effect::Fenced), "{fenced:?}");
        assert_eq!(index.entry(&key()).await.unwrap(), Entry::default());
    })
    .await;
}

#[tokio::test]
async fn an_intent_ends_only_as_it_was_seen() {
    on_every_engine(async |index| {
        let [one, other] = ["a:1", "b:1"].map(|volume| named(volume, 1));
        done(index.begin(&key(), intent(1, std::slice::from_ref(&one)), always()).await.unwrap());
        done(index.extend(&key(), intent(1, std::slice::from_ref(&other))).await.unwrap());
        let fenced = index.end(&key(), intent(1, std::slice::from_ref(&one))).await.unwrap();
        assert!(matches!(fenced, Effect::Fenced), "{fenced:?}");
        done(index.end(&key(), intent(1, &[one, other])).await.unwrap());
        assert_eq!(index.entry(&key()).await.unwrap(), Entry::default());
    })
    .await;
}

#[tokio::test]
async fn a_name_is_given_to_one_attempt_only() {
    on_every_engine(async |index| {
        let file = plain("a:1");
        done(index.begin(&key(), intent(1, std::slice::from_ref(&file)), always()).await.unwrap());
        let taken = index.begin(&key(), intent(2, std::slice::from_ref(&file)), always()).await.unwrap();
        assert!(matches!(taken, Effect::NotFree), "an intent names it: {taken:?}");
        let value = record(std::slice::from_ref(&file));
        done(index.take_effect(&key(), 1, value, always(), surplus(3)).await.unwrap());
        let taken = index.begin(&key(), intent(2, std::slice::from_ref(&file)), always()).await.unwrap();
        assert!(matches!(taken, Effect::NotFree), "the record names it: {taken:?}");
        done(index.begin(&key(), intent(2, &[plain("b:1")]), always()).await.unwrap());
        let taken = index.extend(&key(), intent(2, &[file])).await.unwrap();
        assert!(matches!(taken, Effect::NotFree), "{taken:?}");
    })
    .await;
}

#[tokio::test]
async fn no_attempt_takes_effect_over_one_that_began_later() {
    on_every_engine(async |index| {
        let early = record(&[named("a:1", 1)]);
        done(index.begin(&key(), intent(1, &early.replicas), always()).await.unwrap());
        let late = stored(index, 2).await;
        let overtaken = index.take_effect(&key(), 1, early, always(), surplus(5)).await.unwrap();
        assert!(matches!(overtaken, Effect::Overtaken), "{overtaken:?}");
        assert_eq!(index.look(&key()).await.unwrap(), Some(late));
    })
    .await;
}

#[tokio::test]
async fn a_key_has_so_many_intents_and_no_more() {
    on_every_engine(async |index| {
        for id in 1..=MAX_INTENTS as u64 {
            done(index.begin(&key(), intent(id, &[named("a:1", id)]), always()).await.unwrap());
        }
        let more = intent(1000, &[named("a:1", 1000)]);
        let refused = index.begin(&key(), more, always()).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::Unsettled)), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn a_removed_value_is_handed_back_and_its_files_get_an_intent() {
    on_every_engine(async |index| {
        let value = stored(index, 1).await;
        let removed = index.remove(&key(), 5, always()).await.unwrap();
        assert_eq!(done(removed), Done { replaced: Some(value.clone()), intents: 1 });
        let expected = Entry { record: None, intents: vec![intent(5, &value.replicas)] };
        assert_eq!(index.entry(&key()).await.unwrap(), expected);
        let refused = index.remove(&key(), 6, always()).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::NotFound)), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn a_state_is_set_once() {
    on_every_engine(async |index| {
        let refused = index.set_state(&key(), State::Unlinked).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::NotFound)), "{refused:?}");
        let value = stored(index, 1).await;
        done(index.set_state(&key(), State::Unlinked).await.unwrap());
        let refused = index.set_state(&key(), State::Unlinked).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::NotFound)), "{refused:?}");
        let hidden = Record { state: State::Unlinked, ..value };
        assert_eq!(index.look(&key()).await.unwrap(), Some(hidden));
    })
    .await;
}

#[tokio::test]
async fn what_became_of_an_attempt_is_told() {
    on_every_engine(async |index| {
        let files = [named("a:1", 1)];
        let resolve = async || index.resolve(&key(), 1, &files).await.unwrap();
        assert_eq!(resolve().await, Resolved::Gone);
        done(index.begin(&key(), intent(1, &files), always()).await.unwrap());
        assert_eq!(resolve().await, Resolved::Closed);
        done(index.take_effect(&key(), 1, record(&files), always(), surplus(2)).await.unwrap());
        assert_eq!(resolve().await, Resolved::TookEffect);
        done(index.remove(&key(), 3, always()).await.unwrap());
        assert_eq!(resolve().await, Resolved::Gone);
    })
    .await;
}

#[tokio::test]
async fn forgotten_volumes_leave_the_intents() {
    on_every_engine(async |index| {
        let [kept, gone] = ["a:1", "gone:1"].map(|volume| named(volume, 1));
        done(index.begin(&key(), intent(1, &[kept.clone(), gone.clone()]), always()).await.unwrap());
        done(index.begin(&key(), intent(2, &[named("gone:1", 2)]), always()).await.unwrap());
        index.forget(&key(), &["gone:1".into()]).await.unwrap();
        assert_eq!(index.entry(&key()).await.unwrap().intents, [intent(1, &[kept])]);
    })
    .await;
}

#[tokio::test]
async fn numbers_are_given_out_once() {
    on_every_engine(async |index| {
        let mut numbers = join_all((0..50).map(|_| index.number())).await;
        let mut numbers: Vec<u64> = numbers.drain(..).map(Result::unwrap).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!((numbers.len(), numbers[0] > 0), (50, true));
        assert!(index.first_unreserved().await.unwrap() > numbers[49]);
    })
    .await;
}

/// As after a write that failed; without one, too.
#[tokio::test]
async fn an_index_that_is_opened_again_holds_what_it_held() {
    on_every_engine(async |index| {
        let value = stored(index, 1).await;
        let begun = intent(9, &[named("b:1", 9)]);
        done(index.begin(&key(), begun.clone(), always()).await.unwrap());
        let numbers = [index.number().await.unwrap(), index.number().await.unwrap()];
        index.reopen().await.unwrap();
        assert!(index.is_fresh());
        let expected = Entry { record: Some(value), intents: vec![begun] };
        assert_eq!(index.entry(&key()).await.unwrap(), expected);
        assert!(index.number().await.unwrap() > numbers[1], "numbers go on");
        let next = record(&[named("b:1", 9)]);
        done(index.take_effect(&key(), 9, next, always(), surplus(10)).await.unwrap());
    })
    .await;
}

fn made(modified: u64) -> Record {
    let (md5, size, modified) = (None, None, Some(Timestamp::from_millis(modified)));
    Record { state: State::Live, replicas: Vec::new(), md5, size, modified, headers: Vec::new() }
}

async fn all_notes(index: &Index, notes: Notes, prefix: &[u8], from: Option<&Note>) -> Vec<Note> {
    let (mut all, mut start) = (Vec::new(), from.cloned());
    loop {
        let page = index.notes_page(notes, prefix, start.as_ref()).await.unwrap();
        start = page.next_note();
        all.extend(page.rows.into_iter().map(|(note, _)| note));
        if start.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn a_note_is_found_and_listed_in_order_until_it_is_forgotten() {
    on_every_engine(async |index| {
        let upload = |key: &[u8], number| Note::Upload(Key::new(key), number);
        let uploads =
            [upload(b"/a/k", 2), upload(b"/a/k", 10), upload(b"/a/k/deeper", 1), upload(b"/b/k", 3)];
        let bucket = Note::Bucket(b"photos".to_vec());
        for (at, note) in uploads.iter().chain([&bucket]).enumerate() {
            assert_eq!(index.note(note).await.unwrap(), None);
            index.set_note(note, Some(&made(at as u64))).await.unwrap();
            assert_eq!(index.note(note).await.unwrap(), Some(made(at as u64)));
        }
        assert_eq!(all_notes(index, Notes::Uploads, b"", None).await, uploads);
        assert_eq!(all_notes(index, Notes::Uploads, b"/a/", None).await, uploads[..3]);
        let from = upload(b"/a/k", 3);
        assert_eq!(all_notes(index, Notes::Uploads, b"", Some(&from)).await, uploads[1..]);
        assert_eq!(all_notes(index, Notes::Buckets, b"", None).await, std::slice::from_ref(&bucket));
        index.set_note(&bucket, None).await.unwrap();
        assert_eq!(all_notes(index, Notes::Buckets, b"", None).await, []);
    })
    .await;
}

/// Completions and aborts of one upload, all at once.
#[tokio::test]
async fn one_of_all_that_end_a_note_does_and_without_the_note_nothing_is_written() {
    on_every_engine(async |index| {
        let (at, note) = (key(), Note::Upload(key(), 1));
        index.set_note(&note, Some(&made(1))).await.unwrap();
        let with =
            |ends| Conditions { required: Some(RequiredNote { note: note.clone(), ends }), ..always() };
        // a step that requires the note and doesn't end it
        let part = record(&[named("a:1", 10)]);
        done(index.begin(&key(), intent(10, &part.replicas), with(false)).await.unwrap());
        done(index.take_effect(&key(), 10, part, with(false), surplus(11)).await.unwrap());
        assert!(index.note(&note).await.unwrap().is_some());

        let values: Vec<(u64, Record)> = (20..28).map(|id| (id, record(&[named("a:1", id)]))).collect();
        for (id, value) in &values {
            done(index.begin(&key(), intent(*id, &value.replicas), with(true)).await.unwrap());
        }
        assert!(index.note(&note).await.unwrap().is_some(), "a step that begins ends no note");
        let completions =
            join_all(values.iter().map(|(id, value)| {
                index.take_effect(&at, *id, value.clone(), with(true), surplus(100 + *id))
            }));
        let aborts = join_all((0..8).map(|_| index.end_note(&note)));
        let (completions, aborts) = tokio::join!(completions, aborts);
        let completed: Vec<usize> = (0..)
            .zip(&completions)
            .filter(|(_, effect)| matches!(effect, Ok(Effect::Done(_))))
            .map(|(number, _)| number)
            .collect();
        let aborted = aborts.iter().filter(|ended| *ended.as_ref().unwrap()).count();
        assert_eq!(completed.len() + aborted, 1, "{completions:?} {aborts:?}");
        assert_eq!(index.note(&note).await.unwrap(), None);
        if let [winner] = completed[..] {
            assert_eq!(index.look(&key()).await.unwrap().as_ref(), Some(&values[winner].1));
        }
        let late = record(&[named("b:1", 40)]);
        let refused = index.begin(&key(), intent(40, &late.replicas), with(false)).await.unwrap();
        assert!(matches!(refused, Effect::Refused(Error::NoUpload)), "{refused:?}");
    })
    .await;
}

/// Writes of one key that meet are carried out one after the other, whichever way they go.
#[tokio::test]
async fn of_steps_that_meet_each_sees_what_the_one_before_it_left() {
    on_every_engine(async |index| {
        let at = key();
        let values: Vec<(u64, Record)> = (1..9).map(|id| (id, record(&[named("a:1", id)]))).collect();
        let begun = values.iter().map(|(id, value)| index.begin(&at, intent(*id, &value.replicas), absent()));
        assert!(join_all(begun).await.iter().all(|effect| matches!(effect, Ok(Effect::Done(_)))));
        let effects = join_all(
            values
                .iter()
                .map(|(id, value)| index.take_effect(&at, *id, value.clone(), absent(), surplus(100))),
        );
        let effects = effects.await;
        let exists = |effect: &&_| matches!(effect, Ok(Effect::Refused(Error::Exists)));
        assert_eq!(effects.iter().filter(exists).count(), 7, "{effects:?}");
        assert_eq!(effects.iter().filter(|effect| matches!(effect, Ok(Effect::Done(_)))).count(), 1);
    })
    .await;
}
