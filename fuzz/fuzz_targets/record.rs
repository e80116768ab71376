//! Rows of an index: what can be read of one is written the same.
#![no_main]

use davkv::record::{Intent, Record};
use libfuzzer_sys::fuzz_target;

/// Begins our records, and none of minikeyvalue's.
const VERSION: u8 = 1;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = Record::decode(bytes) {
        assert_eq!(Record::decode(&record.encode()).as_ref(), Ok(&record));
        if bytes.first() == Some(&VERSION) {
            assert_eq!(record.encode(), bytes);
        } else {
            // but for the case of its hash's digits
            let again = record.encode_minikeyvalue().expect("all its names are plain");
            assert!(again.eq_ignore_ascii_case(bytes));
            assert_eq!(Record::decode(&again).as_ref(), Ok(&record));
        }
    }
    if let Ok(intents) = Intent::decode_all(bytes) {
        assert_eq!(Intent::encode_all(&intents), bytes);
    }
});
