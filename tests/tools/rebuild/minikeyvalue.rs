//! Downgrades to minikeyvalue: records that it can read.

use std::collections::BTreeMap;

use davkv::key::{Key, Name};
use davkv::record::{Record, State};

use crate::rig::{Rig, contents, key, keys, rows};

#[test]
fn minikeyvalues_records_name_every_key() {
    let mut rig = Rig::new(3);
    rig.serve(&[]);
    let readable = |key: &Key| key.has_plain_name() && !key.path(Name::Plain).contains('~');
    let keys: Vec<_> = keys(20).into_iter().filter(readable).collect();
    for (n, key) in keys.iter().enumerate() {
        rig.expect("PUT", key, b"value", 201);
        if n % 3 == 0 {
            rig.expect("UNLINK", key, b"", 204);
        }
    }
    rig.end_master();
    let (old, rebuilt) = (rig.db(), rig.path("rebuilt"));
    let flags = ["--records", "minikeyvalue", "--from", old.to_str().unwrap()];
    rig.rebuild(&rebuilt, &flags).assert_done();
    let old = contents(&old);
    let expected = old.records.iter().map(|(key, record)| {
        assert!(record.md5.is_some());
        (key.as_bytes().to_vec(), record.encode_minikeyvalue().unwrap())
    });
    assert_eq!(rows(&rebuilt), expected.collect());
}

#[test]
fn minikeyvalues_records_without_an_older_index_have_no_md5() {
    let rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/key"), rank, Name::Plain, b"value");
    }
    rig.rebuild(&rig.db(), &["--records", "minikeyvalue"]).assert_done();
    let places: Vec<_> = (0..3).map(|rank| rig.replica(&key("/key"), rank, Name::Plain).place).collect();
    let text = places.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(rows(&rig.db()), BTreeMap::from([(b"/key".to_vec(), text.into_bytes())]));
    let record = Record::decode(&rows(&rig.db())[b"/key".as_slice()]).unwrap();
    assert_eq!((record.state, record.md5, record.size), (State::Live, None, None));
}

#[test]
fn keys_that_minikeyvalue_cannot_read_are_named_and_fail_the_run() {
    let rig = Rig::new(3);
    for rank in 0..3 {
        rig.lay(&key("/old"), rank, Name::Plain, b"value");
        rig.lay(&key("/new"), rank, Name::Generation(7), b"value");
        rig.lay(&key("/empty"), rank, Name::Plain, b"");
    }
    let ended = rig.rebuild(&rig.db(), &["--records", "minikeyvalue"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.err, "minikeyvalue can't read the name of its file: /new\n");
    assert_eq!((ended.figure("objects"), ended.figure("failures")), (1, 1));
    assert_eq!(rows(&rig.db()).keys().collect::<Vec<_>>(), [b"/old"]);
}
