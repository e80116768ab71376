//! If any path on a volume parses to a key, it is that key's path.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use davkv::key::{Key, Name};
use libfuzzer_sys::fuzz_target;

fn check(path: &str) {
    if let Some((key, name)) = Key::from_path(path) {
        assert_eq!(key.path(name), path);
    }
}

/// The input as a name in its key's directories, which depend on an MD5 that a fuzzer can't guess.
fn placed(name: &str) -> Option<String> {
    let joined = name.replace("~/", "");
    let key = match joined.split_once(',') {
        None => STANDARD.decode(joined).ok()?,
        Some((key, _)) => URL_SAFE.decode(key).ok()?,
    };
    let directories = Key::new(&key).path(Name::Plain);
    Some(format!("{}{name}", directories.get(..7)?))
}

fuzz_target!(|input: &str| {
    check(input);
    if let Some(path) = placed(input) {
        check(&path);
    }
});
