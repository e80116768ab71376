//! Valid keys, and the ways in which clients encode them.

use std::collections::BTreeMap;

use davkv::key::MAX_KEY_BYTES;

use crate::common::eventually;
use crate::common::http::{get_url, request};
use crate::rig::{PATIENCE, UNRESERVED, cluster, encode, keys, put, quote, refuses, stored};

/// The ways in which clients encode a key.
fn encodings(key: &str) -> Vec<(&'static str, Vec<u8>)> {
    let everything = key.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    let raw = |byte: &u8| match byte {
        b' ' | b'#' | b'%' | b'?' | b'<' | b'>' | b'`' => format!("%{byte:02X}").into_bytes(),
        other => vec![*other],
    };
    vec![
        ("quote", encode(key, UNRESERVED)),
        ("requests", encode(key, "-._~!$&'()*+,:;=@[]")),
        ("encodeURIComponent", encode(key, "-._~!'()*")),
        // WHATWG's path percent-encode set; a backslash would become a slash
        ("browser", encode(key, "-._~!$&'()*+,:;=@[]|^")),
        // as typed, including UTF-8; escapes only what ends a path, begins an escape, or is not allowed in a
        // URL
        ("curl", key.as_bytes().iter().flat_map(raw).collect()),
        ("everything", everything.replacen("%2f", "/", 1).into_bytes()),
    ]
}

/// Stores each key in one encoding and reads it in all of them; then the volumes and the list have exactly
/// these keys.
#[track_caller]
fn round_trip(keys: &[String]) {
    let cluster = cluster();
    let addr = cluster.master.addr();
    for (n, key) in keys.iter().enumerate() {
        let encodings = encodings(key);
        let (client, target) = &encodings[n % encodings.len()];
        let answer = request(&addr, "PUT", target, &[], key.as_bytes());
        assert_eq!(answer.status, 201, "PUT {key:?} as {client}: {}", answer.text());
    }
    for key in keys {
        for (client, target) in encodings(key) {
            let answer = request(&addr, "GET", &target, &[], b"");
            assert_eq!(answer.status, 302, "GET {key:?} as {client}: {}", answer.text());
            let value = get_url(answer.header("location").unwrap());
            assert_eq!(value.text(), *key, "as {client}");
        }
    }
    let expected: BTreeMap<_, _> =
        keys.iter().map(|key| (key.clone().into_bytes(), vec![key.clone().into_bytes(); 3])).collect();
    assert_eq!(stored(&cluster), expected);
    let mut sorted = keys.to_vec();
    sorted.sort();
    assert_eq!(self::keys(&cluster, "/?list"), sorted);
    // a deletion removes only its own files
    let mut left = expected;
    for key in keys.iter().step_by(2) {
        assert_eq!(cluster.request("DELETE", &quote(key), b"").status, 204);
        left.remove(key.as_bytes());
    }
    eventually("the files are gone", PATIENCE, || stored(&cluster).len() == left.len());
    assert_eq!(stored(&cluster), left);
}

#[test]
fn every_printable_ascii_character_is_a_key() {
    let keys: Vec<_> = (0x20_u8..0x7f).map(|byte| format!("/k{}k", char::from(byte))).collect();
    round_trip(&keys);
}

#[test]
fn every_printable_ascii_character_may_end_a_key() {
    let keys: Vec<_> = (0x20_u8..0x7f).map(|byte| format!("/k{}", char::from(byte))).collect();
    round_trip(&keys);
}

#[test]
fn keys_beyond_ascii_round_trip() {
    let keys = [
        "/oë",
        "/日本語/キー",
        "/ключ",
        "/😀",
        "/ÿÿÿ/ÿ",
        "/\u{a0}",
        "/e\u{301}",
        "/é",
        "/\u{feff}",
        "/\u{10ffff}",
    ];
    round_trip(&keys.map(str::to_owned));
}

#[test]
fn dots_and_slashes_are_part_of_the_key() {
    let keys = [
        "//",
        "///",
        "/.",
        "/..",
        "/../",
        "/../..",
        "/../../etc/passwd",
        "/a",
        "/a/",
        "//a",
        "/a//",
        "/a//b",
        "/a/b",
        "/a/./b",
        "/a/../b",
        "/b",
        "/.hidden",
        "//evil/a",
        "/evil/a",
        "/sv00/a",
        "/body_temp/a",
        "/http://evil/a",
        "/*",
    ];
    round_trip(&keys.map(str::to_owned));
}

#[test]
fn percent_encoding_is_decoded_once() {
    round_trip(&["/%", "/%2f", "/%252f", "/%2e%2e/a", "/%00", "/a%0d%0ab", "/100%"].map(str::to_owned));
}

#[test]
fn keys_whose_base64_has_slashes_have_files_of_their_own() {
    // `?` and `o` at the right offset encode to `/`: inside, at the end, twice, alone
    let keys =
        ["/a?", "/a?b", "/a", "/?", "/??", "/???", "/?????", "/a?/?", "/ab?", "/abc?", "/abcd?", "/oë?"];
    round_trip(&keys.map(str::to_owned));
}

#[test]
fn an_encoded_slash_is_a_slash() {
    let cluster = cluster();
    put(&cluster, "/a%2Fb", b"value");
    assert_eq!(cluster.fetch("/a/b").text(), "value");
    refuses(&cluster, "PUT", "/a/b", b"value", 403);
    assert_eq!(keys(&cluster, "/?list"), ["/a/b"]);
}

#[test]
fn keys_of_all_lengths_round_trip() {
    // around the lengths at which a file name is split into two or more, and the maximum
    let lengths = [2, 3, 188, 189, 190, 191, 192, 380, 381, 382, 571, 1024, 2046, 2047, MAX_KEY_BYTES];
    let keys = lengths.map(|length| format!("/{}", "k".repeat(length - 1)));
    round_trip(&keys);
}

#[test]
fn a_key_that_is_too_long_is_400() {
    let cluster = cluster();
    for character in ["k", "%20"] {
        let target = format!("/{}", character.repeat(MAX_KEY_BYTES));
        refuses(&cluster, "PUT", &target, b"value", 400);
        refuses(&cluster, "GET", &target, b"", 404);
    }
}

#[test]
fn control_characters_are_400() {
    let cluster = cluster();
    for control in (0..0x20).chain([0x7f]).map(|byte: u8| format!("/a%{byte:02x}b")).chain(["/%C2%85".into()])
    {
        refuses(&cluster, "PUT", &control, b"value", 400);
        refuses(&cluster, "GET", &control, b"", 404);
        refuses(&cluster, "DELETE", &control, b"", 404);
    }
    assert!(stored(&cluster).is_empty());
}

#[test]
fn keys_that_are_not_utf_8_are_400() {
    let cluster = cluster();
    for target in ["/%FF", "/%c3", "/%C3%28", "/%ED%A0%80", "/%C0%AF", "/%F5%80%80%80"] {
        refuses(&cluster, "PUT", target, b"value", 400);
        refuses(&cluster, "GET", target, b"", 404);
    }
    let raw = request(&cluster.master.addr(), "PUT", b"/\xff", &[], b"value");
    assert_eq!(raw.status, 400);
}

#[test]
fn broken_escapes_are_400() {
    let cluster = cluster();
    for target in ["/%", "/a%", "/a%4", "/%zz", "/%4z", "/%%41", "/% 41", "/%+1", "/%u0041"] {
        let target = target.replace(' ', "+");
        for method in ["GET", "PUT", "DELETE"] {
            refuses(&cluster, method, &target, b"x", 400);
        }
    }
}

#[test]
fn only_the_path_of_an_absolute_target_matters() {
    let cluster = cluster();
    put(&cluster, "http://evil/key", b"value");
    assert_eq!(cluster.fetch("/key").text(), "value");
    assert_eq!(cluster.fetch("http://other:99/key").text(), "value");
    let location = cluster.request("GET", "http://evil/key", b"").header("location").unwrap().to_owned();
    assert!(location.starts_with("http://127.0.0.1:"), "{location}");
}

#[test]
fn characters_that_urls_do_not_allow_are_400() {
    let cluster = cluster();
    for target in ["/a<b", "/a>b", "/a`b"] {
        assert_eq!(cluster.request("PUT", target, b"value").status, 400, "{target}");
    }
    assert!(keys(&cluster, "/?list").is_empty());
}
