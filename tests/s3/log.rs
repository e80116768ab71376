//! What the master logs about S3 requests.

use crate::common::{Cluster, eventually};
use crate::rig::{Client, Guarded, PATIENCE, fails, open, tag_of};
use crate::signer::{Headers, Signer};

/// The log lines since the master started to listen.
fn logged(cluster: &Cluster) -> Vec<String> {
    let log = cluster.master.log();
    log.lines().skip_while(|line| !line.contains("listening")).skip(1).map(str::to_owned).collect()
}

#[test]
fn refused_requests_are_logged_in_one_line_and_others_are_not() {
    let (cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    for (method, target, headers, status) in [
        ("GET", "/bucket/a", &[][..], 200),
        ("HEAD", "/bucket/a", &[], 200),
        ("GET", "/bucket/none", &[], 404),
        ("HEAD", "/bucket/none", &[], 404),
        ("HEAD", "/none", &[], 404),
        ("GET", "/none?location", &[], 404),
        ("GET", "/bucket/a?uploadId=1", &[], 404),
        ("DELETE", "/bucket/a?uploadId=1", &[], 404),
        ("GET", "/bucket/a", &[("if-match", "\"x\"")], 412),
        ("PUT", "/bucket/a", &[("if-none-match", "*")], 412),
        ("GET", "/bucket/a", &[("if-none-match", &*tag_of(b"value"))], 304),
        ("GET", "/bucket", &[], 200),
        ("DELETE", "/bucket/none", &[], 204),
    ] {
        assert_eq!(s3.ask(method, target, headers, b"").status, status, "{method} {target}");
    }
    for (method, target, headers, status, code) in [
        ("GET", "/bucket/a?tagging", &[][..], 501, "NotImplemented"),
        ("PUT", "/bucket/a%00", &[], 400, "InvalidArgument"),
        ("GET", "/bucket?max-keys=-1", &[], 400, "InvalidArgument"),
        ("HEAD", "/bucket/a", &[("range", "bytes=9-")], 416, "InvalidRange"),
        ("DELETE", "/bucket", &[], 409, "BucketNotEmpty"),
        ("PUT", "/bucket/a", &[("content-md5", "x")], 400, "InvalidDigest"),
        ("GET", "/bucket/%FF", &[], 400, "InvalidURI"),
    ] {
        let before = logged(&cluster).len();
        let answer = s3.ask(method, target, headers, b"");
        assert_eq!(answer.status, status, "{method} {target}");
        eventually("the refusal is logged", PATIENCE, || logged(&cluster).len() > before);
        let lines = logged(&cluster);
        assert_eq!(lines.len(), before + 1, "{lines:#?}");
        let id = answer.header("x-amz-request-id").unwrap();
        let path = target.split('?').next().unwrap().trim_end_matches("%00").trim_end_matches("%FF");
        for word in [method, path, &status.to_string(), code, id, "why=\""] {
            assert!(lines[before].contains(word), "no {word}: {}", lines[before]);
        }
        assert!(!lines[before].contains("why=\"\""), "{}", lines[before]);
    }
}

const KEYS: &str = r#"
[[key]]
access = "editor"
secret = "editor-secret"
buckets = ["photos"]
allow = ["read", "write"]
"#;

#[test]
fn no_secret_and_no_signature_is_logged() {
    let guarded = Guarded::new(KEYS, &["-v"]);
    let editor = guarded.client("editor");
    let signer = editor.signer.clone().unwrap();
    let mut secrets = vec!["editor-secret".to_owned(), "wrong-secret".to_owned()];
    let mut ask = |signer: &Signer, method: &str, target: &str| {
        let url = signer.presign(method, &editor.addr, target, &Headers::new(), 60);
        secrets.push(url.rsplit('=').next().unwrap().to_owned());
        crate::common::request(&editor.addr, method, &url, &[("range", "bytes=0-0")], b"x")
    };
    assert_eq!(ask(&signer, "PUT", "/photos/a").status, 200);
    assert_eq!(ask(&signer, "GET", "/photos/a").status, 206);
    fails(&ask(&signer, "PUT", "/other/a"), 403, "AccessDenied");
    fails(&ask(&signer, "PUT", "/photos/a?acl"), 501, "NotImplemented");
    let wrong = Signer::new("editor", "wrong-secret");
    fails(&ask(&wrong, "PUT", "/photos/a"), 403, "SignatureDoesNotMatch");
    for client in [editor.clone(), Client { signer: Some(wrong), ..editor.clone() }] {
        for target in ["/photos/a", "/other/a"] {
            for header in client.headers("GET", target, &[], crate::signer::UNSIGNED) {
                if header.0 == "authorization" {
                    secrets.push(header.1.rsplit('=').next().unwrap().to_owned());
                }
            }
            client.get(target);
        }
    }
    // when the last request is in the log, so are the others
    fails(&guarded.anybody().get("/last/a"), 403, "AccessDenied");
    let log = || guarded.cluster.master.log();
    eventually("the last request is logged", PATIENCE, || log().contains("/last/a"));
    let log = log();
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} in {log}");
    }
    // successful requests are logged only if that is asked for
    assert!(
        log.lines()
            .any(|line| ["PUT", "/photos/a", "200", "answered"].iter().all(|word| line.contains(word)))
    );
    assert!(!log.contains("s3s"), "{log}");
    assert!(!log.contains("X-Amz-"), "{log}");
}

#[test]
fn a_request_cannot_break_a_log_line() {
    let cluster = crate::rig::cluster(&["-v"]);
    let s3 = Client::of(&cluster.master);
    for key in ["a%0Ainjected", "a%1B[31minjected", "%C2%9Binjected", "\u{2028}injected", "%E2%80%A8injected"]
    {
        s3.ask("PUT", &format!("/bucket/{key}"), &[], b"x");
        s3.get(&format!("/bucket/{key}?tagging"));
        s3.get(&format!("/{key}/a"));
    }
    for value in ["\u{9b}injected", "\u{2028}injected", "<&>injected", "\u{1f600}"] {
        s3.ask("PUT", "/bucket/a", &[("x-amz-storage-class", value), ("x-amz-meta-a", value)], b"x");
        s3.ask("PUT", "/bucket/a", &[("if-match", value)], b"x");
        s3.ask("GET", "/bucket/a", &[("x-amz-checksum-mode", value), ("range", value)], b"");
        s3.get(&format!("/bucket?max-keys={}", crate::signer::encode(value, "")));
    }
    fails(&s3.ask("PUT", "/last", &[("x-amz-acl", "public-read")], b""), 501, "NotImplemented");
    eventually("the last request is logged", PATIENCE, || cluster.master.log().contains("/last"));
    let log = cluster.master.log();
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("injected")), "{log}");
    assert!(!log.contains('\u{2028}'), "{log:?}");
}
