#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use proptest::prelude::*;

const MD5: [u8; 16] = *b"0123456789abcdef";

fn plain(place: &str) -> Replica {
    Replica { place: Place::new(place), name: Name::Plain }
}

#[test]
fn minikeyvalues_records_are_read() {
    let record = Record::decode(b"DELETEDHASH5d41402abc4b2a76b9719d911017c592a:1/sv00,b:1/sv0A").unwrap();
    assert_eq!(record.state, State::Unlinked);
    assert_eq!(record.md5.map(|md5| hex(&md5)).unwrap(), "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(record.replicas, [plain("a:1/sv00"), plain("b:1/sv0A")]);
    assert_eq!((record.size, record.modified), (None, None));
    assert_eq!(Record::decode(b"hello").unwrap().replicas, [plain("hello")]);
    assert_eq!(Record::decode(b"hello,world").unwrap().state, State::Live);
}

#[test]
fn minikeyvalues_records_are_written() {
    let bytes = b"DELETEDHASH5d41402abc4b2a76b9719d911017c592a:1/sv00,b:1/sv0A";
    let mut record = Record::decode(bytes).unwrap();
    assert_eq!(record.encode_minikeyvalue().unwrap(), bytes);
    record.replicas = vec![Replica { place: Place::new("a:1"), name: Name::Generation(7) }];
    assert_eq!(record.encode_minikeyvalue(), None);
}

#[test]
fn damaged_bytes_are_refused() {
    for bytes in [
        b"".as_slice(),
        b"DELETED",
        b"HASH5d41",
        b"HASH5d41402abc4b2a76b9719d911017c59xa:1",
        b"HASH+d41402abc4b2a76b9719d911017c592a:1",
        b"a:1,,b:1",
        b"a:1\n",
        b"\xff",
        b"\x01",
        b"\x02",
        b"\x01\x10\0\0\0\0",
        b"\x02\x10\0\0\0\0",
        b"\x01\x00\0\0\0\0tail",
        b"\x02\x00\0\0\0\0tail",
        b"\x03\x00\0\0\0\0",
        b"\x01\x00\0\x01\0\x03a:1\x02\0\0",
    ] {
        assert!(Record::decode(bytes).is_err(), "{bytes:?}");
        assert!(Record::check(bytes).is_err(), "{bytes:?}");
    }
}

fn full(modified: Timestamp) -> Record {
    Record {
        state: State::Unlinked,
        replicas: vec![plain("a:1/sv00"), Replica { place: Place::new("b:1"), name: Name::Generation(258) }],
        md5: Some(MD5),
        size: Some(3),
        modified: Some(modified),
        headers: vec![("content-type".into(), "text/plain".into())],
    }
}

/// The stored form is a contract: an index outlives the program that wrote it.
#[test]
fn our_form_is_pinned() {
    let record = full(Timestamp::from_millis(4005));
    let bytes = b"\x02\x0f0123456789abcdef\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\x0f\xa5\
        \0\x02\0\x08a:1/sv00\0\0\x03b:1\x01\0\0\0\0\0\0\x01\x02\
        \0\x01\0\x0ccontent-type\0\x0atext/plain";
    assert_eq!(record.encode(), bytes);
    assert_eq!(record.encode_in(Form::Current).unwrap(), bytes);
    assert_eq!(Record::decode(bytes).unwrap(), record);
    let intents = [Intent { id: 5, files: vec![plain("a:1")] }];
    let bytes = b"\x01\0\x01\0\0\0\0\0\0\0\x05\0\x01\0\x03a:1\0";
    assert_eq!(Intent::encode_all(&intents), bytes);
    assert_eq!(Intent::decode_all(bytes).unwrap(), intents);
}

/// The form in which davkv 0.1 wrote records, and the only form of davkv's that it reads.
#[test]
fn the_form_of_davkv_0_1_is_pinned() {
    let record = full(Timestamp::from_seconds(4));
    let bytes = b"\x01\x0f0123456789abcdef\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\
        \0\x02\0\x08a:1/sv00\0\0\x03b:1\x01\0\0\0\0\0\0\x01\x02\
        \0\x01\0\x0ccontent-type\0\x0atext/plain";
    assert_eq!(Record::decode(bytes).unwrap(), record);
    assert_eq!(record.encode_in(Form::Davkv01).unwrap(), bytes);
    let within_the_second = full(Timestamp::from_millis(4999));
    assert_eq!(within_the_second.encode_in(Form::Davkv01).unwrap(), bytes);
}

/// Clients keep tags, so the tag of a stored value must not change with the form of its record.
#[test]
fn the_tag_of_a_value_without_md5_has_its_time_in_seconds() {
    let without = |modified| Record { md5: None, ..full(modified) };
    assert_eq!(without(Timestamp::from_seconds(0x1234)).tag(), "1234-3-102");
    assert_eq!(without(Timestamp::from_millis(0x1234 * 1000 + 999)).tag(), "1234-3-102");
    let unknown = Record { modified: None, size: None, ..without(Timestamp::default()) };
    assert_eq!(unknown.tag(), "0-0-102");
}

fn replicas() -> impl Strategy<Value = Vec<Replica>> {
    let replica =
        ("[a-z]{1,9}:[0-9]{1,4}(/sv[0-9A-F]{2})?", any::<Option<u64>>()).prop_map(|(place, generation)| {
            Replica { place: Place::new(&place), name: generation.map_or(Name::Plain, Name::Generation) }
        });
    proptest::collection::vec(replica, 1..6)
}

/// Its version and flags; of a text, all of it.
#[test]
fn a_state_is_not_read_from_a_damaged_beginning() {
    for bytes in [b"".as_slice(), b"\x02", b"\x02\x80", b"\x03\0", b"HASHzz", b"DELETEDa:1,", b"\x22\0a"] {
        assert!(State::decode(bytes).is_err(), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn an_encoded_record_is_decoded_to_the_same_record(
        live: bool, replicas in replicas(), md5: Option<[u8; 16]>, size: Option<u64>, modified: Option<u64>,
        headers in proptest::collection::vec((".{0,9}", ".{0,9}"), 0..4),
    ) {
        let state = if live { State::Live } else { State::Unlinked };
        let record = Record { state, replicas, md5, size, modified: modified.map(Timestamp::from_millis), headers };
        let seconds = record.modified.map(|modified| Timestamp::from_seconds(modified.seconds()));
        let of_davkv01 = record.encode_in(Form::Davkv01).unwrap();
        prop_assert_eq!(Record::decode(&of_davkv01), Ok(Record { modified: seconds, ..record.clone() }));
        // a record of davkv 0.1 that is written again has the same content
        let again = Record::decode(&of_davkv01).unwrap();
        prop_assert_eq!(Record::decode(&again.encode()).unwrap().encode_in(Form::Davkv01).unwrap(), of_davkv01);
        prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn encoded_intents_are_decoded_to_the_same_intents(intents in proptest::collection::vec((any::<u64>(), replicas()), 0..4)) {
        let intents: Vec<Intent> = intents.into_iter().map(|(id, files)| Intent { id, files }).collect();
        prop_assert_eq!(Intent::decode_all(&Intent::encode_all(&intents)), Ok(intents));
    }

    /// The bytes are a record with slight damage, so that many are valid and many are not.
    #[test]
    fn a_check_and_a_state_agree_with_the_whole_record(
        replicas in replicas(), cut in 0..200_usize, at in 0..200_usize, byte: u8, of_davkv01: bool,
    ) {
        let (state, md5, size, modified) = (State::Live, Some(MD5), None, Some(Timestamp::from_millis(1)));
        let record = Record { state, replicas, md5, size, modified, headers: Vec::new() };
        let form = if of_davkv01 { Form::Davkv01 } else { Form::Current };
        let mut bytes = record.encode_in(form).unwrap();
        bytes.truncate(cut);
        if let Some(damaged) = bytes.get_mut(at) {
            *damaged = byte;
        }
        let record = Record::decode(&bytes);
        prop_assert_eq!(Record::check(&bytes), record.clone().map(drop));
        if let Ok(record) = record {
            prop_assert_eq!(State::decode(&bytes), Ok(record.state));
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        drop(Record::decode(&bytes));
        drop(Intent::decode_all(&bytes));
    }
}
