//! Credentials: what each client may do, and how others are refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::command_line::{fails, flags};
use crate::common::http::{Connection, Response, get_url, head, request};
use crate::common::{Cluster, eventually, free_port};
use crate::rig::{PATIENCE, cluster, missing, refused};

const FILE: &str = r#"
public-read = ["www"]

[[key]]
access = "reader"
secret = "reader-secret"
buckets = ["photos", "backup-*"]
allow = ["read"]

[[key]]
access = "writer"
secret = "writer-secret"
buckets = ["photos", "backup-*"]
allow = ["write"]

[[key]]
access = "editor"
secret = "editor-secret"
buckets = ["photos", "backup-*"]
allow = ["read", "write"]

[[key]]
access = "admin"
secret = "admin-secret"
buckets = ["photos"]
allow = ["admin"]

[[key]]
access = "root"
secret = "root-secret"
buckets = ["*"]
allow = ["admin"]
"#;

const ROOT: Option<&str> = Some("Bearer root-secret");
const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "DELETE", "UNLINK", "RELINK", "REBALANCE"];

/// A cluster whose master has a credentials file.
struct Guarded {
    cluster: Cluster,
    file: PathBuf,
    _tempdir: TempDir,
}

impl Guarded {
    fn new(text: &str) -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        let file = tempdir.path().join("keys.toml");
        write(&file, text);
        let cluster = Cluster::new(3, &["-v", "--credentials", file.to_str().unwrap()]);
        Self { cluster, file, _tempdir: tempdir }
    }

    fn ask(&self, authorization: Option<&str>, method: &str, target: &str, body: &[u8]) -> Response {
        let headers: Vec<_> = authorization.map(|value| ("Authorization", value)).into_iter().collect();
        request(&self.cluster.master.addr(), method, target, &headers, body)
    }

    #[track_caller]
    fn put(&self, target: &str) {
        let answer = self.ask(ROOT, "PUT", target, target.as_bytes());
        assert_eq!(answer.status, 201, "PUT {target}: {}", answer.text());
    }

    /// Rewrites the credentials file, reloads it, and waits for `said` in the log.
    #[track_caller]
    fn reload(&self, text: &str, said: &str) {
        write(&self.file, text);
        let before = self.said(said);
        self.cluster.master.hang_up();
        eventually(said, PATIENCE, || self.said(said) > before);
    }

    fn said(&self, words: &str) -> usize {
        self.cluster.master.log().matches(words).count()
    }
}

/// Writes a file that only its owner can read.
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn basic(access: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{access}:{secret}")))
}

fn bearer(access: &str) -> String {
    format!("Bearer {access}-secret")
}

/// Asserts that an answer asks for credentials, with one line of text that says why.
#[track_caller]
fn asks_for_credentials(answer: &Response) {
    refused(answer, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"davkv\""));
}

#[test]
fn without_a_credentials_file_all_requests_are_allowed_and_the_log_warns() {
    let cluster = cluster();
    assert_eq!(cluster.master.log().matches("WARN no --credentials: anybody may read").count(), 1);
    let headers = ["Bearer nobody", "Basic ?", "nonsense", ""];
    for (target, authorization) in ["/a", "/b", "/c", "/d"].into_iter().zip(headers) {
        let headers = [("Authorization", authorization)];
        let answer = request(&cluster.master.addr(), "PUT", target, &headers, b"value");
        assert_eq!(answer.status, 201, "{authorization}: {}", answer.text());
    }
}

#[test]
fn with_a_credentials_file_the_log_has_no_such_warning() {
    let guarded = Guarded::new(FILE);
    assert!(!guarded.cluster.master.log().contains("WARN"), "{}", guarded.cluster.master.log());
}

#[test]
fn clients_without_credentials_get_401_whether_the_key_exists_or_not() {
    let guarded = Guarded::new(FILE);
    guarded.put("/photos/a");
    let wrong = [
        basic("root", "root-secre"),
        basic("root", ""),
        basic("nobody", "root-secret"),
        "Bearer root".to_owned(),
        "Basic root:root-secret".to_owned(),
    ];
    for authorization in wrong.iter().map(|wrong| Some(wrong.as_str())).chain([None]) {
        for method in METHODS {
            let [there, none] = ["/photos/a", "/photos/none"].map(|target| {
                let mut answer = guarded.ask(authorization, method, target, b"value");
                answer.headers.retain(|(name, _)| name != "date");
                answer
            });
            assert_eq!(there, none, "{authorization:?} {method}");
            if method == "HEAD" {
                assert_eq!(there.status, 401, "{authorization:?}");
            } else {
                asks_for_credentials(&there);
            }
        }
        asks_for_credentials(&guarded.ask(authorization, "GET", "/?list", b""));
        asks_for_credentials(&guarded.ask(authorization, "GET", "/photos/?unlinked", b""));
        asks_for_credentials(&guarded.ask(authorization, "POST", "/photos/a", b""));
    }
    let answer = guarded.ask(ROOT, "GET", "/photos/a", b"");
    assert_eq!(get_url(answer.header("location").unwrap()).text(), "/photos/a");
}

#[test]
fn a_client_logs_in_with_basic_or_bearer() {
    let guarded = Guarded::new(FILE);
    for (target, authorization) in
        [("/photos/a", basic("editor", "editor-secret")), ("/photos/b", "Bearer editor-secret".to_owned())]
    {
        let authorization = Some(authorization.as_str());
        assert_eq!(guarded.ask(authorization, "PUT", target, b"value").status, 201);
        let answer = guarded.ask(authorization, "GET", target, b"");
        assert_eq!(get_url(answer.header("location").unwrap()).text(), "value");
    }
}

#[test]
fn a_credential_allows_exactly_its_rights() {
    let guarded = Guarded::new(FILE);
    for (access, allowed) in [
        ("reader", &["GET", "HEAD"][..]),
        ("writer", &["PUT", "UNLINK", "RELINK", "DELETE"]),
        ("editor", &["GET", "HEAD", "PUT", "UNLINK", "RELINK", "DELETE"]),
        ("admin", &METHODS),
        ("root", &METHODS),
    ] {
        for method in METHODS {
            let answer = guarded.ask(Some(&bearer(access)), method, "/photos/none", b"");
            // a key that doesn't exist, and an empty value
            let expected = match method {
                _ if !allowed.contains(&method) => 403,
                "PUT" => 411,
                _ => 404,
            };
            assert_eq!(answer.status, expected, "{access} {method}: {}", answer.text());
            if expected == 403 && method != "HEAD" {
                refused(&answer, 403);
                assert!(answer.text().contains(access), "{}", answer.text());
            }
        }
    }
}

#[test]
fn a_credential_without_write_access_changes_nothing() {
    let guarded = Guarded::new(FILE);
    guarded.put("/photos/a");
    for method in ["PUT", "DELETE", "UNLINK", "RELINK", "REBALANCE"] {
        refused(&guarded.ask(Some(&bearer("reader")), method, "/photos/a", b"other"), 403);
        refused(&guarded.ask(Some(&bearer("reader")), method, "/photos/none", b"other"), 403);
    }
    let list = guarded.ask(ROOT, "GET", "/?list", b"");
    assert_eq!(list.text().trim(), r#"{"next":"","keys":["/photos/a"]}"#);
}

#[test]
fn a_credential_is_valid_for_its_buckets_only() {
    let guarded = Guarded::new(FILE);
    let (reader, root) = (bearer("reader"), bearer("root"));
    for (target, allowed) in [
        ("/photos/a", true),
        ("/photos", true),
        ("/photos/", true),
        ("/photos%2Fa", true),
        ("/%70hotos/a", true),
        ("/photos//a", true),
        ("/backup-1/a", true),
        ("/backup-/a", true),
        ("/photos2/a", false),
        ("/Photos/a", false),
        ("/backup/a", false),
        ("//photos/a", false),
        ("/./photos/a", false),
        ("/other/photos/a", false),
        ("/other/../photos/a", false),
        ("/photos%00/a", false),
        ("/backup-%FF/a", false),
        ("/", false),
    ] {
        let status = guarded.ask(Some(&reader), "GET", target, b"").status;
        assert_eq!(status, if allowed { 404 } else { 403 }, "{target}");
        let status = guarded.ask(Some(&root), "GET", target, b"").status;
        assert!([400, 404].contains(&status), "{target}: {status}");
    }
}

#[test]
fn a_public_bucket_can_be_read_without_credentials() {
    let guarded = Guarded::new(FILE);
    guarded.put("/www/index.html");
    let writer = bearer("writer");
    for authorization in [None, Some("Bearer nobody's secret"), Some(&*writer)] {
        let ask = |method, target| guarded.ask(authorization, method, target, b"x");
        let answer = ask("GET", "/www/index.html");
        assert_eq!(get_url(answer.header("location").unwrap()).text(), "/www/index.html");
        assert_eq!(ask("HEAD", "/www/index.html").status, 302);
        missing(&ask("GET", "/www/none"));
        assert_eq!(ask("GET", "/www/?list").text().trim(), r#"{"next":"","keys":["/www/index.html"]}"#);
        let denied = if authorization == Some(&writer) { 403 } else { 401 };
        for (method, target) in [
            ("PUT", "/www/other"),
            ("DELETE", "/www/index.html"),
            ("UNLINK", "/www/index.html"),
            ("REBALANCE", "/www/index.html"),
            ("GET", "/www2/index.html"),
            ("GET", "/www?list"),
            ("GET", "/?list"),
        ] {
            refused(&ask(method, target), denied);
        }
    }
}

#[test]
fn a_listing_is_limited_to_the_buckets_of_its_credential() {
    let guarded = Guarded::new(FILE);
    for target in ["/photos", "/photos/a", "/photos2/a", "/secret/a"] {
        guarded.put(target);
    }
    let (reader, writer, admin) = (bearer("reader"), bearer("writer"), bearer("admin"));
    for query in ["list", "unlinked", "list&start=/secret/a&limit=9"] {
        for (target, allowed) in [
            ("/photos/", true),
            ("/photos/a", true),
            ("/photos%2Fa/b", true),
            ("/backup-7/", true),
            // the prefix also matches keys in other buckets
            ("/photos", false),
            ("/backup-", false),
            ("/", false),
            ("//", false),
            ("/secret/", false),
            ("/backup-%FF/", false),
        ] {
            let target = format!("{target}?{query}");
            for method in ["GET", "HEAD"] {
                let status = |access: &str| guarded.ask(Some(access), method, &target, b"").status;
                assert_eq!(status(&reader), if allowed { 200 } else { 403 }, "{method} {target}");
                assert_eq!(status(&writer), 403, "{method} {target}");
            }
            assert_eq!(guarded.ask(ROOT, "GET", &target, b"").status, 200, "{target}");
        }
    }
    let list = guarded.ask(Some(&admin), "GET", "/photos/?list", b"");
    assert_eq!(list.text().trim(), r#"{"next":"","keys":["/photos/a"]}"#);
    // a malformed listing is a 400, but only for clients that may list
    refused(&guarded.ask(Some(&reader), "GET", "/photos/?lists", b""), 400);
    refused(&guarded.ask(Some(&reader), "GET", "/secret/?lists", b""), 403);
    refused(&guarded.ask(Some(&reader), "PUT", "/photos/a?list", b"x"), 403);
    refused(&guarded.ask(Some(&bearer("editor")), "PUT", "/photos/a?list", b"x"), 400);
}

#[test]
fn a_refusal_is_sent_before_the_body_is_asked_for() {
    let guarded = Guarded::new(FILE);
    let addr = guarded.cluster.master.addr();
    for (authorization, status) in [("Bearer nobody's secret", 401), ("Bearer reader-secret", 403)] {
        let headers = [("Expect", "100-continue"), ("Authorization", authorization)];
        let mut connection = Connection::open(None, &addr).unwrap();
        connection.send(&head(&addr, "PUT", b"/photos/a", &headers, 5)).unwrap();
        // the first answer must be the refusal, not a 100
        refused(&connection.receive_any("PUT").unwrap(), status);
    }
}

#[test]
fn after_sighup_open_connections_use_the_new_credentials() {
    let guarded = Guarded::new(FILE);
    let addr = guarded.cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    let mut status = |secret: &str| {
        let authorization = format!("Bearer {secret}");
        let headers = [("Authorization", authorization.as_str())];
        connection.send(&head(&addr, "GET", b"/photos/none", &headers, 0)).unwrap();
        connection.receive("GET").unwrap().status
    };
    assert_eq!((status("reader-secret"), status("another-secret")), (404, 401));
    guarded.reload(&FILE.replace("reader-secret", "another-secret"), "the keys were read again");
    assert_eq!((status("reader-secret"), status("another-secret")), (401, 404));
    guarded.reload(&FILE.replace("photos", "other"), "the keys were read again");
    assert_eq!((status("reader-secret"), status("another-secret")), (403, 401));
}

#[test]
fn an_invalid_file_at_sighup_keeps_the_old_credentials() {
    let guarded = Guarded::new(FILE);
    let reader = bearer("reader");
    for (broken, why) in [
        (FILE.replace("\"admin\"]", "\"adminn\"]"), "\"adminn\""),
        (FILE.replace("secret = \"reader-secret\"", "secret = reader-secret"), "line 6 isn't TOML"),
        (FILE.replace("reader-secret", "short"), "secret is too short"),
        (String::new(), "names no key"),
    ] {
        guarded.reload(&broken, why);
        let log = guarded.cluster.master.log();
        let line = log.lines().find(|line| line.contains(why)).unwrap();
        for word in ["ERROR", "the keys stay as they were", "keys.toml"] {
            assert!(line.contains(word), "no {word} in {line}");
        }
        assert_eq!(guarded.ask(Some(&reader), "GET", "/photos/none", b"").status, 404, "{why}");
        asks_for_credentials(&guarded.ask(None, "GET", "/photos/none", b""));
    }
    guarded.reload(FILE, "the keys were read again");
}

#[test]
fn sighup_without_a_credentials_file_is_only_logged() {
    let cluster = cluster();
    cluster.master.hang_up();
    eventually("SIGHUP is logged", PATIENCE, || cluster.master.log().contains("SIGHUP"));
    assert_eq!(cluster.request("PUT", "/key", b"value").status, 201);
}

#[test]
fn a_credentials_file_that_others_can_read_causes_a_warning() {
    let tempdir = tempfile::tempdir().unwrap();
    let file = tempdir.path().join("keys.toml");
    write(&file, FILE);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let cluster = Cluster::new(3, &["--credentials", file.to_str().unwrap()]);
    let warnings = || cluster.master.log().matches(&format!("chmod 600 {}", file.display())).count();
    assert_eq!(warnings(), 1, "{}", cluster.master.log());
    cluster.master.hang_up();
    eventually("the log warns again", PATIENCE, || warnings() == 2);
}

#[test]
fn secrets_are_not_logged() {
    let guarded = Guarded::new(FILE);
    for method in METHODS {
        for access in ["reader", "root"] {
            guarded.ask(Some(&basic(access, &format!("{access}-secret"))), method, "/photos/a", b"value");
            guarded.ask(Some(&bearer(access)), method, "/other/a", b"");
        }
    }
    guarded.reload(&FILE.replace("\"reader-secret\"", "reader-secret"), "the keys stay");
    let log = guarded.cluster.master.log();
    assert!(!log.contains("-secret"), "{log}");
    assert!(!log.contains(&STANDARD.encode("reader:")[..8]), "{log}");
}

#[test]
fn an_invalid_credentials_file_ends_the_start_with_one_line() {
    let tempdir = tempfile::tempdir().unwrap();
    let (db, file) = (tempdir.path().join("db"), tempdir.path().join("keys.toml"));
    let (name, port) = (file.to_str().unwrap(), free_port().to_string());
    let flags = [&flags(&db, &port)[..], &["--credentials", name]].concat();
    fails(&flags, &[], 1, &["keys.toml", "--credentials"]);
    for (text, words) in [
        (FILE.replace("secret =", "secert ="), &["keys.toml", "line 4", "\"secert\"", "secret"][..]),
        (FILE.replace("\"reader-secret\"", "\"reader"), &["keys.toml", "line 6 isn't TOML"]),
        (FILE.replace("writer-secret", "reader-secret"), &["keys.toml", "line 10", "same secret"]),
    ] {
        write(&file, &text);
        fails(&flags, &[], 1, words);
        fails(&flags[..8], &[("DAVKV_CREDENTIALS", name)], 1, words);
    }
    fails(&flags[..8], &[("DAVKV_CREDENTIALS", "")], 2, &["--credentials"]);
    // the check comes before the index is created
    assert!(!db.exists());
}
