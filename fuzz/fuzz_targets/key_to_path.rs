//! Any key has paths that are valid in file systems and URLs, and parse to the same key.
#![no_main]

use davkv::key::{Key, MAX_GENERATION, Name};
use libfuzzer_sys::fuzz_target;

/// The longest component of a path that file systems can hold, in bytes.
const LONGEST: usize = 255;

fuzz_target!(|input: (Option<u64>, &[u8])| {
    let (generation, bytes) = input;
    if bytes.is_empty() {
        return; // a key is never empty
    }
    let key = Key::new(bytes);
    let name = generation.map_or(Name::Plain, Name::Generation);
    let path = key.path(name);
    assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/+=-_,~".contains(&byte)));
    assert!(path.split('/').all(|component| component.len() <= LONGEST));
    let is_valid = generation.is_none_or(|generation| generation <= MAX_GENERATION);
    assert_eq!(Key::from_path(&path), is_valid.then(|| (key.clone(), name)));
    // the path of a value is a file's: no component is empty, not even the last one
    if key.check().is_ok() && (generation.is_some() || key.has_plain_name()) {
        assert!(path.split('/').skip(1).all(|component| !component.is_empty()));
    }
    // the displayed key is safe in a header and in a log line
    let shown = key.to_string();
    assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(davkv::wire::target::percent_decode(&shown).as_deref(), Ok(bytes));
});
