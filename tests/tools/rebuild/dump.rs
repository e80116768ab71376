//! Rebuilds from a dump of the lost index.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use davkv::index::{Entry, Loaded};
use davkv::key::{Key, Name};
use davkv::record::{Intent, Record, Replica, State};

use super::parts::Parts;
use crate::common::{Order, Stage, eventually, request};
use crate::rig::{
    Ended, Model, PATIENCE, REPLICAS, Random, Rig, as_volumes_know, block_on, contents, is_held, key, open,
    open_and_release,
};

/// The parts of a value that only the index knows.
fn headers() -> Vec<(String, String)> {
    [("content-type", "image/jpeg"), ("x-amz-meta-from", "Bali"), ("etag", "0123-2")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// A store of a dozen keys, every fifth of them unlinked, all with headers; no master runs.
fn store() -> (Rig, Model) {
    let mut rig = Rig::new(4);
    let model = rig.fill(12, &mut Random::new());
    let index = open(&rig.db(), false);
    for key in model.keys() {
        let Entry { record, intents } = block_on(index.entry(key)).unwrap();
        let record = Record { headers: headers(), ..record.unwrap() };
        let loaded = Loaded { record: Some(record.encode()), intents };
        block_on(index.load(vec![(key.clone(), loaded)])).unwrap();
    }
    index.close();
    (rig, model)
}

/// Stops the master, deletes its index, and rebuilds it from that dump.
#[track_caller]
fn lose_and_rebuild(rig: &mut Rig, dump: &Path) -> Ended {
    rig.end_master();
    fs::rename(rig.db(), rig.path("lost")).unwrap();
    rig.rebuild(&rig.db(), &["--from", dump.to_str().unwrap()])
}

#[test]
fn states_md5s_and_headers_are_restored() {
    let (mut rig, model) = store();
    rig.serve(&[]);
    let dump = rig.dump("dump");
    let ended = lose_and_rebuild(&mut rig, &dump);
    ended.assert_done();
    assert_eq!(ended.err, "");
    let names = ["objects", "parts", "incomplete", "leftovers", "lost", "failures"];
    assert_eq!(names.map(|name| ended.figure(name)), [12, 0, 0, 0, 0, 0]);
    assert_eq!(contents(&rig.db()), contents(&rig.path("lost")));
    assert!(contents(&rig.db()).records.values().all(|record| record.headers == headers()));
    rig.assert_tidy(&rig.addresses(), &model);
}

#[test]
fn parts_and_notes_are_restored() {
    let (mut rig, parts, notes) = Parts::new().close();
    rig.serve(&[]);
    let dump = rig.dump("dump");
    lose_and_rebuild(&mut rig, &dump).assert_done();
    let new = contents(&rig.db());
    assert_eq!((new.parts, new.notes), (parts, notes));
}

#[test]
fn a_value_that_was_deleted_before_the_dump_is_not_revived() {
    let mut rig = Rig::new(4);
    let deleted = key("/deleted");
    rig.serve(&[]);
    rig.expect("PUT", &deleted, b"value", 201);
    let replicas: Vec<_> = (0..2).map(|rank| rig.replica(&deleted, rank, Name::Plain)).collect();
    let files: Vec<_> = replicas.iter().map(|replica| rig.stored(&deleted, replica)).collect();
    for (volume, _) in &files {
        rig.volumes[*volume].kill();
    }
    rig.expect("DELETE", &deleted, b"", 204);
    // so that the dump is from a later second than the files
    eventually("a second has passed", PATIENCE, || {
        let written = fs::metadata(rig.file(&files[0])).unwrap().modified().unwrap();
        written.elapsed().is_ok_and(|age| age > Duration::from_secs(2))
    });
    let dump = rig.dump("dump");
    rig.master.as_mut().unwrap().kill();
    rig.master = None;
    for (volume, _) in &files {
        rig.volumes[*volume].restart();
    }
    let ended = lose_and_rebuild(&mut rig, &dump);
    ended.assert_done();
    assert_eq!((ended.err.as_str(), ended.figure("objects")), ("", 0));
    let intents = contents(&rig.db()).intents.remove(&deleted).unwrap();
    assert!(replicas.iter().all(|file| intents.iter().any(|intent| intent.files.contains(file))));
    rig.serve(&[]);
    eventually("the value's files are deleted", PATIENCE, || rig.files().is_empty());
}

#[test]
fn writes_after_the_dump_are_restored_from_the_files() {
    let mut rig = Rig::new(3);
    let [kept, replaced, deleted, new, unlinked] =
        ["/kept", "/replaced", "/deleted", "/new", "/unlinked"].map(key);
    rig.serve(&[]);
    for key in [&kept, &replaced, &deleted, &unlinked] {
        rig.expect("PUT", key, b"older", 201);
    }
    let dump = rig.dump("dump");
    rig.expect("DELETE", &replaced, b"", 204);
    rig.expect("PUT", &replaced, b"newer value", 201);
    rig.expect("PUT", &new, b"new", 201);
    rig.expect("DELETE", &deleted, b"", 204);
    rig.expect("UNLINK", &unlinked, b"", 204);
    let ended = lose_and_rebuild(&mut rig, &dump);
    ended.assert_done();
    assert_eq!(ended.err, "in the older index, and on no volume: /deleted\n");
    let (old, seen) = (contents(&rig.path("lost")).records, contents(&rig.db()).records);
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[&kept], old[&kept]);
    assert_eq!(seen[&unlinked], Record { state: State::Live, ..old[&unlinked].clone() });
    for key in [&replaced, &new] {
        let modified = old[key].modified.map(as_volumes_know);
        assert_eq!(seen[key], Record { md5: None, modified, ..old[key].clone() }, "{key}");
    }
}

#[test]
fn values_that_moved_after_the_dump_keep_their_records() {
    let (mut rig, _) = store();
    rig.serve(&[]);
    let dump = rig.dump("dump");
    rig.end_master();
    // every replica moves
    rig.rebalance(&rig.addresses(), &["--subvolumes", "1"]).assert_done();
    let ended = lose_and_rebuild(&mut rig, &dump);
    ended.assert_done();
    let (old, new) = (contents(&rig.path("lost")).records, contents(&rig.db()).records);
    assert_eq!(new.keys().collect::<Vec<_>>(), old.keys().collect::<Vec<_>>());
    for (key, record) in &new {
        let placed = Record { replicas: record.replicas.clone(), ..old[key].clone() };
        assert_eq!(*record, placed, "{key}");
    }
}

/// When the dump was taken, an intent named the value's files.
#[test]
fn a_value_that_was_being_written_during_the_dump_is_live() {
    for flags in [&[][..], &["--names", "generation"]] {
        let mut rig = Rig::gated(3);
        let one = key("/key");
        rig.serve(flags);
        for gate in &rig.gates {
            gate.rule(|method, _| (method == "PUT").then_some(Order::Hold));
        }
        let (addr, target) = (rig.master.as_ref().unwrap().addr(), one.to_string());
        let put = std::thread::spawn(move || request(&addr, "PUT", target, &[], b"value").status);
        eventually("an upload to a volume is under way", PATIENCE, || is_held(&rig.gates, "PUT"));
        let dump = rig.dump("dump");
        open_and_release(&rig.gates, "PUT");
        assert_eq!(put.join().unwrap(), 201);
        assert!(rig.gates.iter().all(|gate| gate.count("PUT", Stage::Held) == 0));
        let ended = lose_and_rebuild(&mut rig, &dump);
        ended.assert_done();
        assert_eq!(["objects", "leftovers"].map(|name| ended.figure(name)), [1, 0], "{flags:?}");
        let record = contents(&rig.db()).records.remove(&one).unwrap();
        assert_eq!((record.state, record.replicas.len()), (State::Live, REPLICAS));
    }
}

/// Dumps an index with an intent for files of a key that don't exist. Returns the second in which the dump
/// was taken.
fn dump_with_an_intent(rig: &Rig, of: &Key, name: Name) -> SystemTime {
    let index = open(&rig.db(), true);
    let files: Vec<Replica> = (0..REPLICAS).map(|rank| rig.replica(of, rank, name)).collect();
    let loaded = Loaded { record: None, intents: vec![Intent { id: 1, files }] };
    let dump = block_on(async {
        index.load(vec![(of.clone(), loaded)]).await.unwrap();
        let (dump, rest) = index.dump(|_, _| false).await.unwrap().page().await.unwrap();
        assert!(rest.is_none());
        dump
    });
    assert_eq!(block_on(index.entry(of)).unwrap().intents.len(), 1);
    index.close();
    let taken = dump[..].split_at("davkv index dump 1\n".len()).1.first_chunk().unwrap();
    fs::write(rig.path("dump"), &dump).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from_be_bytes(*taken))
}

/// Creates the files of that name with that time, and rebuilds from the dump.
fn rebuild_with_files_written(rig: &mut Rig, one: &Key, name: Name, then: SystemTime) -> Entry {
    for rank in 0..REPLICAS {
        let file = rig.lay(one, rank, name, b"value");
        File::options().append(true).open(rig.file(&file)).unwrap().set_modified(then).unwrap();
    }
    let dump = rig.path("dump");
    lose_and_rebuild(rig, &dump).assert_done();
    block_on(open(&rig.db(), false).entry(one)).unwrap()
}

/// The key had been deleted; just after the dump, the deletion was confirmed, and the name was free again.
#[test]
fn a_plain_name_that_was_reused_within_the_second_of_the_dump_is_a_value() {
    let mut rig = Rig::new(3);
    let taken = dump_with_an_intent(&rig, &key("/key"), Name::Plain);
    let Entry { record, intents } = rebuild_with_files_written(&mut rig, &key("/key"), Name::Plain, taken);
    assert_eq!((record.map(|record| record.state), intents), (Some(State::Live), vec![]));
}

#[test]
fn files_named_by_an_intent_of_the_dump_are_not_revived() {
    let earlier = Duration::from_secs(1);
    for (name, before) in [(Name::Plain, earlier), (Name::Generation(7), Duration::ZERO)] {
        let mut rig = Rig::new(3);
        let taken = dump_with_an_intent(&rig, &key("/key"), name);
        let Entry { record, intents } =
            rebuild_with_files_written(&mut rig, &key("/key"), name, taken - before);
        assert_eq!((record, intents.len()), (None, 1), "{name:?}");
    }
}

/// Asserts that a rebuild refuses these bytes as a dump, and creates nothing.
#[track_caller]
fn assert_refused(rig: &Rig, bytes: &[u8], why: &str) {
    let dump = rig.path("damaged");
    fs::write(&dump, bytes).unwrap();
    let ended = rig.rebuild(&rig.path("rebuilt"), &["--from", dump.to_str().unwrap()]);
    ended.assert_one_line(1, &format!("can't use the dump {} (--from): {why}", dump.display()));
    assert!(!rig.path("rebuilt").exists() && !rig.path("rebuilt.rebuilding").exists());
}

#[test]
fn a_truncated_dump_is_refused_wherever_it_ends() {
    let (mut rig, _) = store();
    rig.serve(&[]);
    let dump = fs::read(rig.dump("dump")).unwrap();
    let mut random = Random::new();
    let ends = [0, 1, 18, 19, 26, 27, 28, dump.len() - 25, dump.len() - 16, dump.len() - 1];
    for end in ends.into_iter().chain((0..10).map(|_| random.below(dump.len()))) {
        let why = if end < 19 { "it is no dump" } else { "it is cut short" };
        assert_refused(&rig, &dump[..end], why);
    }
}

#[test]
fn a_dump_with_a_flipped_bit_is_refused() {
    let (mut rig, _) = store();
    rig.serve(&[]);
    let dump = fs::read(rig.dump("dump")).unwrap();
    let mut random = Random::new();
    let places = [0, 19, 27, 28, dump.len() - 25, dump.len() - 24, dump.len() - 16, dump.len() - 1];
    let others: Vec<_> = (0..10).map(|_| random.below(dump.len())).collect();
    for place in places.into_iter().chain(others) {
        let mut damaged = dump.clone();
        damaged[place] ^= 1 << random.below(8);
        assert_refused(&rig, &damaged, "it is");
    }
}

#[test]
fn a_file_that_is_not_a_dump_is_refused() {
    let rig = Rig::new(3);
    for bytes in [b"".as_slice(), b"{\"next\":\"\",\"keys\":[]}\n", b"davkv index dump 2\n"] {
        assert_refused(&rig, bytes, "it is no dump");
    }
}

/// `curl -C -`, or two runs with `>>`, produce such a file.
#[test]
fn two_concatenated_dumps_are_refused() {
    let (mut rig, _) = store();
    rig.serve(&[]);
    let dump = fs::read(rig.dump("dump")).unwrap();
    assert_refused(&rig, &[dump.as_slice(), &dump].concat(), "it is damaged: something comes after its end");
}

/// A killed rebuild has left part of its work.
#[test]
fn leftovers_of_an_earlier_rebuild_from_a_dump_are_deleted() {
    let (mut rig, _) = store();
    rig.serve(&[]);
    let dump = rig.dump("dump");
    let left = rig.path("db.rebuilding").join("older");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("CURRENT"), "nonsense").unwrap();
    lose_and_rebuild(&mut rig, &dump).assert_done();
    assert_eq!(contents(&rig.db()), contents(&rig.path("lost")));
}

/// minikeyvalue's records contain MD5s and states, which come from the dump.
#[test]
fn minikeyvalues_records_can_be_made_from_a_dump() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    rig.expect("PUT", &key("/key"), b"value", 201);
    rig.expect("UNLINK", &key("/key"), b"", 204);
    let dump = rig.dump("dump");
    rig.end_master();
    let flags = ["--records", "minikeyvalue", "--from", dump.to_str().unwrap()];
    rig.rebuild(&rig.path("rebuilt"), &flags).assert_done();
    let (old, new) = (contents(&rig.db()), contents(&rig.path("rebuilt")));
    let expected = Record { size: None, modified: None, ..old.records[&key("/key")].clone() };
    assert_eq!(new.records[&key("/key")], expected);
}
