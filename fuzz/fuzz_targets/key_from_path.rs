//! A file's path on a volume, whoever made it: it is the path of the key that is read from it, or of none.
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

/// The input below the directories where its key would lie: no fuzzer guesses an MD5.
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
