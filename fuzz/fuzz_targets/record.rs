//! A row of the index that can be decoded is encoded to the same bytes.
#![no_main]

use davkv::record::{Form, Intent, Record};
use libfuzzer_sys::fuzz_target;

/// The first byte of davkv's records, and of none of minikeyvalue's.
const VERSION: u8 = 2;
/// The first byte of davkv 0.1's records, which have their time in seconds.
const VERSION_OF_DAVKV_01: u8 = 1;
/// The latest time in seconds that milliseconds can express.
const MAX_SECONDS: u64 = u64::MAX / 1000;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = Record::decode(bytes) {
        assert_eq!(Record::decode(&record.encode()).as_ref(), Ok(&record));
        match bytes.first() {
            Some(&VERSION) => assert_eq!(record.encode(), bytes),
            Some(&VERSION_OF_DAVKV_01) => {
                if record.modified.is_none_or(|modified| modified.seconds() < MAX_SECONDS) {
                    assert_eq!(record.encode_in(Form::Davkv01).as_deref(), Some(bytes));
                }
            }
            _ => {
                // the hash's digits may be in upper case
                let again = record.encode_minikeyvalue().expect("all its names are plain");
                assert!(again.eq_ignore_ascii_case(bytes));
                assert_eq!(Record::decode(&again).as_ref(), Ok(&record));
            }
        }
    }
    if let Ok(intents) = Intent::decode_all(bytes) {
        assert_eq!(Intent::encode_all(&intents), bytes);
    }
});
