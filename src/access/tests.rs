//! The file of keys: what it allows, and its errors.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use tempfile::TempDir;

use super::*;

const FILE: &str = r#"
public-read = ["www", "pub-*"]

[[key]]
access = "reader"
secret = "reader's secret"
buckets = ["photos", "backup-*"]
allow = ["read"]

[[key]]
access = "writer"
secret = "writer: sécret"
buckets = ["photos"]
allow = ["write"]

[[key]]
access = "root"
secret = "root's secret"
buckets = ["*"]
allow = ["admin"]
"#;

/// Loads a file with this text.
fn access(text: &str) -> (Access, TempDir) {
    let tempdir = tempfile::tempdir().unwrap();
    let path = tempdir.path().join("keys.toml");
    fs::write(&path, text).unwrap();
    (Access::load(&path).unwrap(), tempdir)
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(text.as_bytes()).unwrap()
}

fn basic(user: &str, secret: &str) -> HeaderValue {
    header(&format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))))
}

/// A file with one key, in which the named field's line is replaced.
fn with(name: &str, line: &str) -> String {
    let mut lines = vec!["[[key]]".to_owned()];
    for (field, value) in [
        ("access", "\"name\""),
        ("secret", "\"long enough\""),
        ("buckets", "[\"*\"]"),
        ("allow", "[\"read\"]"),
    ] {
        lines.push(if field == name { line.to_owned() } else { format!("{field} = {value}") });
    }
    lines.join("\n")
}

#[test]
fn without_a_file_anybody_may_do_everything() {
    let access = Access::unrestricted();
    assert!(access.is_unrestricted());
    assert!(access.permits(None, Right::Admin, None));
    assert!(access.permits(Some("anybody"), Right::Write, Some("photos")));
    assert!(access.readable_by(None)("photos"));
    assert_eq!(access.authenticate(Some(&header("nonsense"))), Ok(None));
    assert_eq!(access.secret("anybody"), None);
    assert_eq!(access.reload(), Ok(()));
}

#[test]
fn a_key_may_do_what_its_entry_says() {
    use Right::{Admin, Read, Write};
    let (access, _tempdir) = access(FILE);
    assert!(!access.is_unrestricted());
    for (who, right, bucket, expected) in [
        ("reader", Read, Some("photos"), true),
        ("reader", Read, Some("photos2"), false),
        ("reader", Read, Some("photo"), false),
        ("reader", Read, Some("backup-"), true),
        ("reader", Read, Some("backup-2"), true),
        ("reader", Read, Some("backup"), false),
        ("reader", Read, Some(""), false),
        ("reader", Read, None, false),
        ("reader", Write, Some("photos"), false),
        ("reader", Admin, Some("photos"), false),
        ("writer", Write, Some("photos"), true),
        ("writer", Read, Some("photos"), false),
        ("writer", Admin, Some("photos"), false),
        ("root", Read, Some("photos"), true),
        ("root", Write, Some(""), true),
        ("root", Write, None, true),
        ("root", Admin, None, true),
        ("nobody", Read, Some("photos"), false),
    ] {
        assert_eq!(access.permits(Some(who), right, bucket), expected, "{who} {right:?} {bucket:?}");
    }
}

#[test]
fn anybody_may_read_public_buckets_and_no_more() {
    let (access, _tempdir) = access(FILE);
    for who in [None, Some("writer"), Some("nobody")] {
        for (right, bucket, expected) in [
            (Right::Read, Some("www"), true),
            (Right::Read, Some("pub-1"), true),
            (Right::Read, Some("photos"), false),
            (Right::Read, None, false),
            (Right::Write, Some("www"), false),
            (Right::Admin, Some("www"), false),
        ] {
            assert_eq!(access.permits(who, right, bucket), expected, "{who:?} {right:?} {bucket:?}");
        }
    }
}

#[test]
fn all_buckets_can_be_public() {
    let (access, _tempdir) = access("public-read = [\"*\"]");
    assert!(access.permits(None, Right::Read, None));
    assert!(!access.permits(None, Right::Write, None));
}

#[test]
fn each_bucket_is_readable_or_not_for_a_client() {
    let (access, _tempdir) = access(FILE);
    let buckets = ["backup-1", "other", "photos", "www"];
    let readable = |who| buckets.map(access.readable_by(who));
    assert_eq!(readable(Some("reader")), [true, false, true, true]);
    assert_eq!(readable(Some("root")), [true; 4]);
    assert_eq!(readable(None), [false, false, false, true]);
}

#[test]
fn a_client_is_authenticated_by_its_secret_with_or_without_its_access_key() {
    let (access, _tempdir) = access(FILE);
    let who = |header: &HeaderValue| access.authenticate(Some(header));
    assert_eq!(access.authenticate(None), Ok(None));
    assert_eq!(who(&basic("reader", "reader's secret")), Ok(Some("reader".to_owned())));
    assert_eq!(who(&basic("writer", "writer: sécret")), Ok(Some("writer".to_owned())));
    assert_eq!(who(&header("Bearer reader's secret")), Ok(Some("reader".to_owned())));
    assert_eq!(who(&header("bEARER  writer: sécret")), Ok(Some("writer".to_owned())));
    assert_eq!(who(&header("bAsIc cm9vdDpyb290J3Mgc2VjcmV0")), Ok(Some("root".to_owned())));
}

#[test]
fn wrong_credentials_are_denied() {
    let (access, _tempdir) = access(FILE);
    for wrong in [
        basic("reader", "writer: sécret"),
        basic("reader", "reader's secre"),
        basic("reader", "reader's secret "),
        basic("reader", ""),
        basic("nobody", "reader's secret"),
        basic("", "reader's secret"),
        header("Basic cm9vdA=="),
        header("Basic root:root's secret"),
        header("Basic"),
        header("Basic "),
        header("Bearer"),
        header("Bearer "),
        header("Bearer reader"),
        header("Bearer root:root's secret"),
        header("Digest root's secret"),
        header("AWS4-HMAC-SHA256 Credential=root/20260101/us-east-1/s3/aws4_request"),
        header("root's secret"),
        header(""),
    ] {
        assert_eq!(access.authenticate(Some(&wrong)), Err(CredentialsError), "{wrong:?}");
    }
}

#[test]
fn a_secret_can_be_read_but_is_not_shown_by_debug() {
    let (access, _tempdir) = access(FILE);
    let secret = access.secret("root").unwrap();
    assert_eq!(secret.expose(), "root's secret");
    assert_eq!(format!("{secret:?}"), "Secret(…)");
    assert_eq!(access.secret("nobody"), None);
}

#[test]
fn all_clones_see_a_reload_and_an_invalid_file_changes_nothing() {
    let (access, tempdir) = access(FILE);
    let clone = access.clone();
    let path = tempdir.path().join("keys.toml");
    for broken in ["[[key]]\naccess = \"new\"", "", "public-read ="] {
        fs::write(&path, broken).unwrap();
        assert!(access.reload().unwrap_err().contains("keys.toml: "), "{broken}");
        assert!(clone.permits(Some("reader"), Right::Read, Some("photos")), "{broken}");
    }
    fs::remove_file(&path).unwrap();
    assert!(access.reload().unwrap_err().contains("keys.toml: No such file"));
    assert!(clone.secret("reader").is_some());
    fs::write(&path, with("", "")).unwrap();
    access.reload().unwrap();
    assert_eq!(clone.secret("name").unwrap().expose(), "long enough");
    assert_eq!(clone.authenticate(Some(&header("Bearer reader's secret"))), Err(CredentialsError));
    assert!(!clone.permits(Some("reader"), Right::Read, Some("photos")));
    assert!(!clone.permits(None, Right::Read, Some("www")));
}

#[test]
fn an_error_is_one_line_that_names_the_entry_and_the_remedy() {
    let twice = |access: &str, secret: &str| {
        let second = with("", "").replace("\"name\"", access).replace("\"long enough\"", secret);
        format!("{}\n{second}", with("", ""))
    };
    for (text, words) in [
        (String::new(), &["names no key", "[[key]]"][..]),
        ("public-read = []".into(), &["names no key"]),
        ("publicread = [\"www\"]".into(), &["\"publicread\"", "public-read"]),
        ("public-read = \"www\"".into(), &["public-read", "[\"…\"]"]),
        ("public-read = [\"a/b\"]".into(), &["public-read", "\"a/b\""]),
        ("key = \"hush-hush\"".into(), &["[[key]]"]),
        ("[key]\nsecret = \"hush-hush\"".into(), &["[[key]]"]),
        (with("", "") + "\nacces = \"x\"", &["[[key]] on line 1:", "\"acces\"", "access"]),
        (with("access", ""), &["[[key]] on line 1:", "access is missing", "access = \""]),
        (with("access", "access = 7"), &["[[key]] on line 1:", "access is not a string"]),
        (with("access", "access = \"\""), &["[[key]] on line 1:", "access is empty", "name"]),
        (with("access", "access = \"a b\""), &["[[key]] on line 1:", "access", "letters"]),
        (with("access", "access = \"a:b\""), &["[[key]] on line 1:", "access", "letters"]),
        (with("access", "access = \"hush/hush\""), &["[[key]] on line 1:", "access", "letters"]),
        (with("access", "access = \"a,b\""), &["[[key]] on line 1:", "access", "letters"]),
        (with("access", "access = \"ä\""), &["[[key]] on line 1:", "access", "letters"]),
        (with("access", "access = \"a\\n\""), &["[[key]] on line 1:", "access", "letters"]),
        (with("secret", ""), &["[[key]] on line 1:", "secret is missing"]),
        (
            with("secret", "secret = 12345678901234567890"),
            &["[[key]] on line 1:", "secret is not a string", "\"…\""],
        ),
        (with("secret", "secret = \"1234567\""), &["[[key]] on line 1:", "secret is too short", "8 bytes"]),
        (with("secret", "secret = hush-hush"), &["line 3 isn't TOML"]),
        (with("secret", "secret = \"hush-hush"), &["line 3 isn't TOML"]),
        (with("secret", "secret = \"hush\\-hush\""), &["line 3 isn't TOML"]),
        (with("secret", "secret \"hush-hush\""), &["line 3 isn't TOML"]),
        (with("secret", "secret = \"hush-hush\"\nsecret = \"hush-hush\""), &["line 4 isn't TOML"]),
        (with("buckets", ""), &["[[key]] on line 1:", "buckets is missing"]),
        (with("buckets", "buckets = []"), &["[[key]] on line 1:", "buckets is empty", "[\"*\"]"]),
        (with("buckets", "buckets = [\"a*b\"]"), &["[[key]] on line 1:", "\"a*b\"", "*"]),
        (with("buckets", "buckets = [\"**\"]"), &["[[key]] on line 1:", "\"**\"", "*"]),
        (with("buckets", "buckets = [\"\"]"), &["[[key]] on line 1:", "buckets"]),
        (with("buckets", "buckets = [\"/a\"]"), &["[[key]] on line 1:", "\"/a\""]),
        (with("buckets", "buckets = [1]"), &["[[key]] on line 1:", "buckets is not a list"]),
        (with("allow", ""), &["[[key]] on line 1:", "allow is missing"]),
        (with("allow", "allow = []"), &["[[key]] on line 1:", "allow is empty", "read, write or admin"]),
        (with("allow", "allow = [\"wirte\"]"), &["[[key]] on line 1:", "\"wirte\"", "read, write or admin"]),
        (with("allow", "allow = [\"Read\"]"), &["[[key]] on line 1:", "\"Read\"", "read, write or admin"]),
        (twice("\"name\"", "\"another one\""), &["[[key]] on line 6:", "same access", "once"]),
        (twice("\"other\"", "\"long enough\""), &["[[key]] on line 6:", "same secret", "its own"]),
    ] {
        let Err(error) = file::parse(&text) else { panic!("this is no error: {text}") };
        assert_eq!(error.lines().count(), 1, "{text}: {error}");
        assert!(!["hush", "enough", "1234"].iter().any(|secret| error.contains(secret)), "{text}: {error}");
        for word in words {
            assert!(error.contains(word), "{text}: no {word} in: {error}");
        }
    }
}

#[test]
fn a_secret_of_eight_bytes_is_long_enough() {
    assert!(file::parse(&with("secret", "secret = \"12345678\"")).is_ok());
    assert!(file::parse(&with("access", "access = \"!~_+=.\"")).is_ok());
}
