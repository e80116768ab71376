//! Any key has paths that a file system and a URL bear, and from which it is read again.
#![no_main]

use davkv::key::{Key, MAX_GENERATION, Name};
use libfuzzer_sys::fuzz_target;

/// The longest component of a path that file systems hold, in bytes.
const LONGEST: usize = 255;

fuzz_target!(|input: (Option<u64>, &[u8])| {
    let (generation, bytes) = input;
    if bytes.is_empty() {
        return; // a key has its slash at least
    }
    let key = Key::new(bytes);
    let name = generation.map_or(Name::Plain, Name::Generation);
    let path = key.path(name);
    assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/+=-_,~".contains(&byte)));
    assert!(path.split('/').all(|component| component.len() <= LONGEST));
    let believed = generation.is_none_or(|generation| generation <= MAX_GENERATION);
    assert_eq!(Key::from_path(&path), believed.then(|| (key.clone(), name)));
    // what may be stored is a file: no component of its path is empty, the last one included
    if key.check().is_ok() && (generation.is_some() || key.has_plain_name()) {
        assert!(path.split('/').skip(1).all(|component| !component.is_empty()));
    }
    // in a header and in a log line
    let shown = key.to_string();
    assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(davkv::wire::target::percent_decode(&shown).as_deref(), Ok(bytes));
});
