//! Uploads in parts.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use davkv::record::hex;
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::common::http::{Connection, head};
use crate::common::{Cluster, Gate, Master, Order, Stage, Volume, eventually};
use crate::rig::{
    Client, PART, PATIENCE, cluster, completion, etag, eventually_holds_only, fails, open, tag_of, value,
};
use crate::signer::sha256_sum;
use crate::xml;

/// S3's tag of an object with these parts.
fn tag_of_parts(parts: &[&[u8]]) -> String {
    let sums: Vec<u8> = parts.iter().flat_map(Md5::digest).collect();
    format!("\"{}-{}\"", hex(&Md5::digest(sums).into()), parts.len())
}

/// Stores these parts, numbered from 1, and returns their tags.
fn put_parts(s3: &Client, target: &str, upload: &str, parts: &[&[u8]]) -> Vec<String> {
    (1..).zip(parts).map(|(number, part)| s3.put_part(target, upload, number, part)).collect()
}

#[track_caller]
fn completed(answer: &crate::common::Response) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    assert!(text.contains("<CompleteMultipartUploadResult"), "{text}");
    xml::text(&text, "ETag").unwrap_or_else(|| panic!("no tag: {text}"))
}

#[test]
fn parts_become_one_object() {
    let (cluster, s3) = open();
    let parts = [&value(1, PART)[..], &value(2, PART + 1), &value(3, 1000)];
    let whole = parts.concat();
    let said = [("content-type", "text/plain"), ("x-amz-meta-a", "b"), ("cache-control", "no-store")];
    let upload = s3.begin("/bucket/a", &said);
    let tags = put_parts(&s3, "/bucket/a", &upload, &parts);
    assert_eq!(tags, parts.map(tag_of));
    assert_eq!(completed(&s3.complete("/bucket/a", &upload, &tags)), tag_of_parts(&parts));
    let found = s3.get("/bucket/a");
    assert!(found.body == whole);
    assert_eq!(etag(&found), tag_of_parts(&parts));
    for (name, value) in said {
        assert_eq!(found.header(name), Some(value), "{name}");
    }
    // one plain file on each volume, and no files of parts
    eventually_holds_only(&cluster, &[("/bucket/a", &whole)]);
    assert!(cluster.fetch("/bucket/a").body == whole);
    // readers may request single parts
    for (number, part, range) in [
        (1, parts[0], format!("bytes 0-{}/{}", PART - 1, whole.len())),
        (2, parts[1], format!("bytes {PART}-{}/{}", 2 * PART, whole.len())),
        (3, parts[2], format!("bytes {}-{}/{}", 2 * PART + 1, whole.len() - 1, whole.len())),
    ] {
        let found = s3.get(&format!("/bucket/a?partNumber={number}"));
        assert!(found.body == part, "{number}");
        assert_eq!((found.status, found.header("content-range")), (206, Some(&*range)));
        assert_eq!(found.header("x-amz-mp-parts-count"), Some("3"));
    }
    fails(&s3.get("/bucket/a?partNumber=4"), 416, "InvalidPartNumber");
    fails(&s3.get("/bucket/a?partNumber=0"), 416, "InvalidPartNumber");
}

#[test]
fn parts_are_visible_only_in_requests_for_uploads() {
    let (cluster, s3) = open();
    let upload = s3.begin("/bucket/a", &[]);
    let tag = s3.put_part("/bucket/a", &upload, 7, b"part");
    fails(&s3.get("/bucket/a"), 404, "NoSuchKey");
    assert!(s3.keys("bucket").is_empty());
    assert!(!s3.get("/").text().contains("<Name>"));
    let nothing = r#"{"next":"","keys":[]}"#;
    for query in ["/?list", "/?unlinked", "/bucket/?list"] {
        assert_eq!(cluster.request("GET", query, b"").text().trim(), nothing, "{query}");
    }
    for target in [format!("/part/{upload}/00007"), format!("part/{upload}/00007")] {
        assert!([400, 404].contains(&cluster.request("GET", &target, b"").status), "{target}");
    }
    let list = s3.get(&format!("/bucket/a?uploadId={upload}")).text();
    assert_eq!(xml::texts(&list, "PartNumber"), ["7"]);
    assert_eq!(xml::texts(&list, "ETag"), [tag]);
    assert_eq!(xml::texts(&list, "Size"), ["4"]);
    let list = s3.get("/bucket?uploads").text();
    assert_eq!((xml::texts(&list, "Key"), xml::texts(&list, "UploadId")), (vec!["a".into()], vec![upload]));
}

#[test]
fn an_upload_survives_a_restart_of_the_master() {
    let (mut cluster, s3) = open();
    s3.put("/bucket/a", b"old");
    let parts = [&value(1, PART)[..], &value(2, PART), &value(3, 10)];
    let upload = s3.begin("/bucket/a", &[("x-amz-meta-a", "b")]);
    let mut tags = put_parts(&s3, "/bucket/a", &upload, &parts[..1]);
    cluster.master.kill();
    cluster.master.restart();
    tags.push(s3.put_part("/bucket/a", &upload, 2, parts[1]));
    cluster.master.restart();
    tags.push(s3.put_part("/bucket/a", &upload, 3, parts[2]));
    assert_eq!(s3.bytes("/bucket/a"), b"old");
    let answer = s3.complete("/bucket/a", &upload, &tags);
    assert_eq!(completed(&answer), tag_of_parts(&parts));
    // a client that missed the answer repeats the request
    cluster.master.kill();
    cluster.master.restart();
    assert_eq!(s3.complete("/bucket/a", &upload, &tags).text(), answer.text());
    assert_eq!(s3.head("/bucket/a").header("x-amz-meta-a"), Some("b"));
    eventually_holds_only(&cluster, &[("/bucket/a", &parts.concat())]);
}

#[test]
fn an_upload_ends_once() {
    let (cluster, s3) = open();
    let upload = s3.begin("/bucket/a", &[]);
    let tags = put_parts(&s3, "/bucket/a", &upload, &[b"value"]);
    let first = s3.complete("/bucket/a", &upload, &tags);
    completed(&first);
    assert_eq!(s3.complete("/bucket/a", &upload, &tags).text(), first.text());
    let by_id = format!("/bucket/a?uploadId={upload}");
    fails(&s3.delete(&by_id), 404, "NoSuchUpload");
    fails(&s3.get(&by_id), 404, "NoSuchUpload");
    let part = format!("/bucket/a?partNumber=2&uploadId={upload}");
    fails(&s3.ask("PUT", &part, &[], b"more"), 404, "NoSuchUpload");
    // after another object has replaced it
    s3.put("/bucket/a", b"other");
    fails(&s3.complete("/bucket/a", &upload, &tags), 404, "NoSuchUpload");
    // after an abort
    let upload = s3.begin("/bucket/a", &[]);
    let tags = put_parts(&s3, "/bucket/a", &upload, &[b"value"]);
    let by_id = format!("/bucket/a?uploadId={upload}");
    assert_eq!(s3.delete(&by_id).status, 204);
    fails(&s3.delete(&by_id), 404, "NoSuchUpload");
    fails(&s3.complete("/bucket/a", &upload, &tags), 404, "NoSuchUpload");
    fails(
        &s3.ask("PUT", &format!("/bucket/a?partNumber=1&uploadId={upload}"), &[], b"x"),
        404,
        "NoSuchUpload",
    );
    assert!(!s3.get("/bucket?uploads").text().contains("<Upload>"));
    assert_eq!(s3.bytes("/bucket/a"), b"other");
    eventually_holds_only(&cluster, &[("/bucket/a", b"other")]);
}

#[test]
fn an_upload_belongs_to_one_object() {
    let (cluster, s3) = open();
    let upload = s3.begin("/bucket/a", &[]);
    let tags = put_parts(&s3, "/bucket/a", &upload, &[b"value"]);
    for target in ["/bucket/b", "/other/a", "/bucket/a/"] {
        fails(&s3.complete(target, &upload, &tags), 404, "NoSuchUpload");
        let target = format!("{target}?uploadId={upload}");
        fails(&s3.delete(&target), 404, "NoSuchUpload");
        fails(&s3.get(&target), 404, "NoSuchUpload");
        fails(&s3.ask("PUT", &format!("{target}&partNumber=1"), &[], b"x"), 404, "NoSuchUpload");
    }
    for id in ["", "0", "x", "-1", &upload.to_uppercase().replace('0', "O"), &format!("{upload}0"), "%00"] {
        fails(&s3.complete("/bucket/a", id, &tags), 404, "NoSuchUpload");
    }
    completed(&s3.complete("/bucket/a", &upload, &tags));
    eventually_holds_only(&cluster, &[("/bucket/a", b"value")]);
}

#[test]
fn the_list_of_parts_is_checked() {
    let (cluster, s3) = open();
    let parts = [&value(1, PART)[..], &value(2, PART), b"small", b"last"];
    let upload = s3.begin("/bucket/a", &[]);
    let tags = put_parts(&s3, "/bucket/a", &upload, &parts);
    let complete = |list: &[(&str, &str)]| {
        let parts: Vec<String> = list
            .iter()
            .map(|(number, tag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"))
            .collect();
        let body = format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.concat());
        s3.ask("POST", &format!("/bucket/a?uploadId={upload}"), &[], body.as_bytes())
    };
    let [one, two, small, last] = [&*tags[0], &*tags[1], &*tags[2], &*tags[3]];
    fails(&complete(&[]), 400, "MalformedXML");
    fails(&complete(&[("2", two), ("1", one)]), 400, "InvalidPartOrder");
    fails(&complete(&[("1", one), ("1", one)]), 400, "InvalidPartOrder");
    fails(&complete(&[("1", two)]), 400, "InvalidPart");
    fails(&complete(&[("1", one), ("5", last)]), 400, "InvalidPart");
    fails(&complete(&[("1", one), ("3", small), ("4", last)]), 400, "EntityTooSmall");
    for number in ["0", "-1", "10001"] {
        fails(&complete(&[(number, one)]), 400, "InvalidArgument");
    }
    for number in ["", "x", "99999999999"] {
        fails(&complete(&[(number, one)]), 400, "MalformedXML");
    }
    for number in ["0", "10001", "-1", "x", "99999999999"] {
        let target = format!("/bucket/a?partNumber={number}&uploadId={upload}");
        fails(&s3.ask("PUT", &target, &[], b"x"), 400, "InvalidArgument");
    }
    let target = format!("/bucket/a?uploadId={upload}");
    for (size, is_good) in [("1", false), (&*(PART + 4).to_string(), true)] {
        let body = format!(
            "<CompleteMultipartUpload><Part><PartNumber>2</PartNumber><ETag>{two}</ETag></Part>\
             <Part><PartNumber>4</PartNumber><ETag>{last}</ETag></Part></CompleteMultipartUpload>"
        );
        let answer = s3.ask("POST", &target, &[("x-amz-mp-object-size", size)], body.as_bytes());
        if is_good {
            // the completion may leave parts out
            assert_eq!(completed(&answer), tag_of_parts(&[parts[1], parts[3]]));
        } else {
            fails(&answer, 400, "InvalidRequest");
        }
    }
    eventually_holds_only(&cluster, &[("/bucket/a", &[parts[1], parts[3]].concat())]);
}

#[test]
fn a_part_that_is_sent_again_replaces_the_first() {
    let (cluster, s3) = open();
    let upload = s3.begin("/bucket/a", &[]);
    let old = s3.put_part("/bucket/a", &upload, 1, b"old");
    let new = s3.put_part("/bucket/a", &upload, 1, b"new");
    fails(&s3.complete("/bucket/a", &upload, &[old]), 400, "InvalidPart");
    completed(&s3.complete("/bucket/a", &upload, &[new]));
    eventually_holds_only(&cluster, &[("/bucket/a", b"new")]);
}

#[test]
fn a_completion_may_be_conditional() {
    let (cluster, s3) = open();
    let old = s3.put("/bucket/a", b"old");
    let upload = s3.begin("/bucket/a", &[]);
    let tags = put_parts(&s3, "/bucket/a", &upload, &[b"value"]);
    let complete = |condition| s3.complete_if("/bucket/a", &upload, &tags, &[condition]);
    fails(&complete(("If-None-Match", "*")), 412, "PreconditionFailed");
    fails(&complete(("If-Match", "\"x\"")), 412, "PreconditionFailed");
    assert_eq!(s3.bytes("/bucket/a"), b"old");
    // the refused completions have not changed the upload
    completed(&complete(("If-Match", &old)));
    eventually_holds_only(&cluster, &[("/bucket/a", b"value")]);
}

#[test]
fn concurrent_completions_and_aborts_have_one_outcome() {
    let (cluster, s3) = open();
    let mut objects: Vec<(String, Vec<u8>)> = Vec::new();
    for round in 0..12 {
        let (target, aborts) = (format!("/bucket/{round:02}"), round % 3 != 0);
        let parts = [&value(round, PART)[..], &value(round + 100, 1000)];
        let upload = s3.begin(&target, &[]);
        let tags = put_parts(&s3, &target, &upload, &parts);
        let (completions, aborted) = std::thread::scope(|scope| {
            let completing: Vec<_> =
                (0..3).map(|_| scope.spawn(|| s3.complete(&target, &upload, &tags))).collect();
            let aborting = scope
                .spawn(|| aborts.then(|| s3.delete(&format!("{target}?uploadId={upload}")).status == 204));
            let completions: Vec<_> = completing.into_iter().map(|thread| thread.join().unwrap()).collect();
            (completions, aborting.join().unwrap() == Some(true))
        });
        for completion in completions {
            if aborted {
                fails(&completion, 404, "NoSuchUpload");
            } else {
                assert_eq!(completed(&completion), tag_of_parts(&parts));
            }
        }
        if aborted {
            fails(&s3.get(&target), 404, "NoSuchKey");
        } else {
            objects.push((target, parts.concat()));
        }
    }
    println!("{} of 12 were completed", objects.len());
    let objects: Vec<_> = objects.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    eventually_holds_only(&cluster, &objects);
}

#[test]
fn parts_can_be_copied() {
    let (cluster, s3) = open();
    let source = value(1, PART + 100);
    s3.put("/bucket/source%20%C3%A4", &source);
    let upload = s3.begin("/bucket/a", &[]);
    let copy = |number: u32, range: Option<&str>, source: &str| {
        let mut headers = vec![("x-amz-copy-source", source)];
        headers.extend(range.map(|range| ("x-amz-copy-source-range", range)));
        s3.ask("PUT", &format!("/bucket/a?partNumber={number}&uploadId={upload}"), &headers, b"")
    };
    let from = "/bucket/source%20%C3%A4";
    let range = format!("bytes=100-{}", PART + 99);
    let first = copy(1, Some(&range), from);
    assert_eq!(first.status, 200, "{}", first.text());
    let tags = [xml::text(&first.text(), "ETag").unwrap(), {
        let second = copy(2, Some("bytes=0-99"), from);
        xml::text(&second.text(), "ETag").unwrap()
    }];
    assert_eq!(tags, [tag_of(&source[100..]), tag_of(&source[..100])]);
    fails(&copy(3, None, "/bucket/none"), 404, "NoSuchKey");
    for range in
        ["bytes=0-99999999999", "bytes=0-", "bytes=-1", "bytes=5-4", "0-1", "bytes=99999999-99999999"]
    {
        let answer = copy(3, Some(range), from);
        assert!([400, 416].contains(&answer.status), "{range}: {}", answer.text());
    }
    assert!([400, 416].contains(&copy(3, Some("bytes=0-9223372036854775807"), from).status));
    completed(&s3.complete("/bucket/a", &upload, &tags));
    let whole = [&source[100..], &source[..100]].concat();
    eventually_holds_only(&cluster, &[("/bucket/a", &whole), ("/bucket/source ä", &source)]);
}

#[test]
fn an_object_gets_a_checksum_from_its_parts() {
    let (_cluster, s3) = open();
    let parts = [&value(1, PART)[..], b"end"];
    // composite: computed from the checksums of the parts
    let upload = s3.begin("/bucket/a", &[("x-amz-checksum-algorithm", "SHA256")]);
    let tags: Vec<String> = (1..)
        .zip(parts)
        .map(|(number, part)| {
            let target = format!("/bucket/a?partNumber={number}&uploadId={upload}");
            let wrong = s3.ask("PUT", &target, &[("x-amz-checksum-sha256", &sha256_sum(b"other"))], part);
            fails(&wrong, 400, "BadDigest");
            let answer = s3.ask("PUT", &target, &[("x-amz-checksum-sha256", &sha256_sum(part))], part);
            assert_eq!(answer.header("x-amz-checksum-sha256"), Some(&*sha256_sum(part)));
            etag(&answer)
        })
        .collect();
    let sums: Vec<u8> = parts.iter().flat_map(Sha256::digest).collect();
    let expected = format!("{}-2", STANDARD.encode(Sha256::digest(sums)));
    let answer = s3.complete("/bucket/a", &upload, &tags);
    assert_eq!(xml::text(&answer.text(), "ChecksumSHA256").as_deref(), Some(&*expected), "{}", answer.text());
    assert_eq!(xml::text(&answer.text(), "ChecksumType").as_deref(), Some("COMPOSITE"));
    let found = s3.ask("HEAD", "/bucket/a", &[("x-amz-checksum-mode", "ENABLED")], b"");
    assert_eq!(found.header("x-amz-checksum-sha256"), Some(&*expected));
    // of the full object
    let whole = parts.concat();
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    crc.update(&whole);
    let expected = STANDARD.encode(crc.finalize().to_be_bytes());
    for (announced, is_good) in [("AAAAAAAAAAA=", false), (&*expected, true)] {
        let upload = s3.begin("/bucket/a", &[("x-amz-checksum-algorithm", "CRC64NVME")]);
        let tags = put_parts(&s3, "/bucket/a", &upload, &parts);
        let headers = [("x-amz-checksum-crc64nvme", announced), ("x-amz-checksum-type", "FULL_OBJECT")];
        let answer = s3.complete_if("/bucket/a", &upload, &tags, &headers);
        if is_good {
            assert_eq!(xml::text(&answer.text(), "ChecksumCRC64NVME").as_deref(), Some(&*expected));
        } else {
            fails(&answer, 400, "BadDigest");
        }
    }
    let found = s3.ask("GET", "/bucket/a", &[("x-amz-checksum-mode", "ENABLED")], b"");
    assert_eq!(found.header("x-amz-checksum-crc64nvme"), Some(&*expected));
    assert_eq!(found.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
}

#[test]
fn uploads_that_are_never_completed_are_aborted() {
    let mut cluster = cluster(&["--upload-expiry", "1s"]);
    let s3 = Client::of(&cluster.master);
    s3.put("/bucket/b", b"kept");
    let upload = s3.begin("/bucket/a", &[]);
    let tags = put_parts(&s3, "/bucket/a", &upload, &[b"value"]);
    // each start looks for expired uploads
    eventually("the upload is aborted", PATIENCE, || {
        cluster.master.restart();
        !s3.get("/bucket?uploads").text().contains("<Upload>")
    });
    fails(&s3.complete("/bucket/a", &upload, &tags), 404, "NoSuchUpload");
    eventually_holds_only(&cluster, &[("/bucket/b", b"kept")]);
}

/// A master whose volumes have gates in front of them.
struct Gated {
    // fields drop in this order
    master: Master,
    gates: Vec<Gate>,
    volumes: Vec<Volume>,
    _tempdir: tempfile::TempDir,
}

impl Gated {
    fn new() -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        let volumes: Vec<_> =
            (1..=3).map(|n| Volume::start(&tempdir.path().join(format!("volume{n}")))).collect();
        let gates: Vec<_> = volumes.iter().map(Gate::before).collect();
        let addresses: Vec<_> = gates.iter().map(Gate::addr).collect();
        let flags = ["--readergrace", "1s", "--quarantine", "1s", "--streamtimeout", "25s"];
        let master = Master::start(&tempdir.path().join("db"), &addresses, &flags);
        Self { master, gates, volumes, _tempdir: tempdir }
    }
}

/// Starts a completion that takes so long that its answer begins before it ends, and reads the answer's head.
fn long_completion(gated: &Gated, s3: &Client, upload: &str, tags: &[String]) -> Connection {
    for gate in &gated.gates {
        gate.order("PUT", Order::Hold);
    }
    let (mut connection, body) = (Connection::open(None, &s3.addr).unwrap(), completion(tags));
    let headers = [("x-amz-a", "b")];
    let target = format!("/bucket/a?uploadId={upload}");
    connection.send(&head(&s3.addr, "POST", target.as_bytes(), &headers, body.len())).unwrap();
    connection.send(body.as_bytes()).unwrap();
    assert_eq!(connection.line().unwrap(), "HTTP/1.1 200 OK");
    let mut numbered = false;
    loop {
        let line = connection.line().unwrap();
        numbered |= line.starts_with("x-amz-request-id: ");
        if line.is_empty() {
            break;
        }
    }
    assert!(numbered);
    let held = |gate: &Gate| gate.count("PUT", Stage::Held) == 1;
    eventually("all gates hold the object", PATIENCE, || gated.gates.iter().all(held));
    connection
}

/// The body of such an answer, without its chunk framing.
fn late(connection: &mut Connection) -> String {
    let mut text = String::new();
    loop {
        let size = usize::from_str_radix(&connection.line().unwrap(), 16).unwrap();
        let mut chunk = String::new();
        while chunk.len() < size {
            // the master's XML contains no line ends
            chunk += &connection.line().unwrap();
        }
        assert_eq!(chunk.len(), size, "{chunk}");
        if size == 0 {
            return text;
        }
        text += &chunk;
    }
}

#[test]
fn a_long_completion_sends_white_space_to_keep_the_connection() {
    let gated = Gated::new();
    let s3 = Client::of(&gated.master);
    let upload = s3.begin("/bucket/a", &[]);
    let tags = put_parts(&s3, "/bucket/a", &upload, &[b"value"]);
    let mut connection = long_completion(&gated, &s3, &upload, &tags);
    for gate in &gated.gates {
        gate.release();
    }
    let text = late(&mut connection);
    let begin = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    let rest = text.strip_prefix(begin).unwrap_or_else(|| panic!("{text}"));
    assert!(rest.starts_with(' '), "{text}");
    assert!(rest.trim_start().starts_with("<CompleteMultipartUploadResult"), "{text}");
    assert_eq!(xml::text(&text, "ETag"), Some(tag_of_parts(&[b"value"])));
    assert_eq!(s3.bytes("/bucket/a"), b"value");
}

#[test]
fn a_long_completion_may_still_fail() {
    let mut gated = Gated::new();
    let s3 = Client::of(&gated.master);
    s3.put("/bucket/a", b"old");
    let begin = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    // because the upload has ended before it, …
    let upload = s3.begin("/bucket/a", &[]);
    let tags = put_parts(&s3, "/bucket/a", &upload, &[b"value"]);
    let mut connection = long_completion(&gated, &s3, &upload, &tags);
    assert_eq!(s3.delete(&format!("/bucket/a?uploadId={upload}")).status, 204);
    for gate in &gated.gates {
        gate.release();
        gate.open();
    }
    let text = late(&mut connection);
    let error = text.strip_prefix(begin).unwrap_or_else(|| panic!("{text}")).trim_start();
    assert!(error.starts_with("<Error><Code>NoSuchUpload</Code><Message>"), "{text}");
    assert_eq!(s3.bytes("/bucket/a"), b"old");
    assert!(!gated.master.log().contains("NoSuchUpload"), "{}", gated.master.log());
    // … or because a volume fails
    let upload = s3.begin("/bucket/a", &[]);
    let tags = put_parts(&s3, "/bucket/a", &upload, &[b"value"]);
    let mut connection = long_completion(&gated, &s3, &upload, &tags);
    gated.volumes[1].kill();
    for gate in &gated.gates {
        gate.release();
        gate.open();
    }
    let text = late(&mut connection);
    let error = text.strip_prefix(begin).unwrap_or_else(|| panic!("{text}")).trim_start();
    assert!(error.starts_with("<Error><Code>ServiceUnavailable</Code><Message>"), "{text}");
    let failed = |line: &&str| line.contains("ServiceUnavailable");
    // the log line may arrive after the answer
    eventually("the failure is logged", PATIENCE, || gated.master.log().lines().any(|line| failed(&line)));
    let log = gated.master.log();
    let line = log.lines().find(failed).unwrap();
    assert!(["WARN", "POST", "/bucket/a", "request="].iter().all(|word| line.contains(word)), "{line}");
    // the completion can be repeated
    gated.volumes[1].restart();
    eventually("the upload is completed", PATIENCE, || {
        s3.complete("/bucket/a", &upload, &tags).status == 200
    });
    assert_eq!(s3.bytes("/bucket/a"), b"value");
}

/// The parts are deleted before the note of their upload can be, so that no part is left without an upload.
#[test]
fn a_completion_survives_a_crash_at_any_moment() {
    let (mut cluster, s3): (Cluster, Client) = open();
    let parts = [&value(1, PART)[..], &value(2, PART), &value(3, PART)];
    let whole = parts.concat();
    for round in 0..4 {
        let upload = s3.begin("/bucket/a", &[]);
        let tags = put_parts(&s3, "/bucket/a", &upload, &parts);
        let mut connection = Connection::open(None, &s3.addr).unwrap();
        let (body, target) = (completion(&tags), format!("/bucket/a?uploadId={upload}"));
        let headers = [("x-amz-a", "b")];
        connection.send(&head(&s3.addr, "POST", target.as_bytes(), &headers, body.len())).unwrap();
        connection.send(body.as_bytes()).unwrap();
        // a little later in each round
        let before = std::time::Instant::now();
        eventually("some time has passed", PATIENCE, || before.elapsed() > Duration::from_millis(30 * round));
        cluster.master.kill();
        cluster.master.restart();
        assert_eq!(completed(&s3.complete("/bucket/a", &upload, &tags)), tag_of_parts(&parts));
        eventually_holds_only(&cluster, &[("/bucket/a", &whole)]);
        assert_eq!(s3.delete("/bucket/a").status, 204);
        eventually_holds_only(&cluster, &[]);
    }
}
