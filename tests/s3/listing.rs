//! Listings, compared with a scan of all keys; and a page reads no more of the index than it shows.

use std::collections::BTreeMap;
use std::path::Path;

use davkv::clock::Timestamp;
use davkv::index::{Index, Loaded, Options};
use davkv::key::{Key, Name};
use davkv::placement::Place;
use davkv::record::{Record, Replica, State};

use crate::common::{Master, Random};
use crate::rig::{Client, fails, open};
use crate::signer::encode;
use crate::xml;

/// Writes keys, and whether they are live, into an index before its master starts. Their volumes are never
/// contacted.
fn load(db: &Path, keys: &BTreeMap<Vec<u8>, bool>, headers: impl Fn() -> Vec<(String, String)>) {
    let index = Index::open(db, Options { create: true, cache_bytes: 8 << 20, sync: false }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let replicas = vec![Replica { place: Place::new("127.0.0.1:1"), name: Name::Plain }];
    let all: Vec<_> = keys.iter().collect();
    for some in all.chunks(5000) {
        let rows = some.iter().map(|(key, live)| {
            let record = Record {
                state: if **live { State::Live } else { State::Unlinked },
                replicas: replicas.clone(),
                md5: Some([7; 16]),
                size: Some(key.len() as u64),
                modified: Some(Timestamp::from_seconds(1)),
                headers: headers(),
            };
            (Key::new(key), Loaded { record: Some(record.encode()), intents: Vec::new() })
        });
        runtime.block_on(index.load(rows.collect())).unwrap();
    }
    index.close();
}

fn master(db: &Path) -> (Master, Client) {
    let master = Master::start(db, &["127.0.0.1:1".to_owned()], &["--replicas", "1"]);
    let client = Client::of(&master);
    (master, client)
}

/// The parameters of a listing.
struct Asked {
    prefix: String,
    delimiter: String,
    after: String,
    most: usize,
}

impl Asked {
    /// All items, computed by looking at every key of the bucket.
    fn expected(&self, keys: &[String]) -> Vec<String> {
        let Self { prefix, delimiter, after, .. } = self;
        let mut items: Vec<String> = Vec::new();
        for key in keys.iter().filter(|key| key.starts_with(prefix) && *key > after) {
            let end = key[prefix.len()..].find(delimiter).filter(|_| !delimiter.is_empty());
            let item = end.map_or(&key[..], |end| &key[..prefix.len() + end + delimiter.len()]);
            // a listing that continues after a common prefix skips its keys
            let seen = end.is_some() && item == after;
            if !seen && items.last().is_none_or(|last| last != item) {
                items.push(item.to_owned());
            }
        }
        items
    }
}

/// The three forms of a listing.
#[derive(Clone, Copy, Debug)]
enum Form {
    One,
    Two,
    Versions,
}

/// A page: its items in order, and the token or key with which the next page begins.
fn page(s3: &Client, asked: &Asked, form: Form, next: &str, encoded: bool) -> (Vec<String>, Option<String>) {
    let parameter = |name: &str, value: &str| format!("&{name}={}", encode(value, ""));
    let mut query = match form {
        Form::One => "x-id=ListObjects".to_owned(),
        Form::Two => "list-type=2".to_owned(),
        Form::Versions => "versions".to_owned(),
    };
    for (name, value) in [("prefix", &asked.prefix), ("delimiter", &asked.delimiter)] {
        if !value.is_empty() {
            query += &parameter(name, value);
        }
    }
    query += &parameter("max-keys", &asked.most.to_string());
    let after = if next.is_empty() { &asked.after } else { next };
    match form {
        _ if after.is_empty() => {}
        Form::One => query += &parameter("marker", after),
        Form::Two if next.is_empty() => query += &parameter("start-after", after),
        Form::Two => query += &parameter("continuation-token", next),
        Form::Versions => query += &parameter("key-marker", after),
    }
    if encoded {
        query += "&encoding-type=url";
    }
    let answer = s3.get(&format!("/bucket?{query}"));
    let text = answer.text();
    assert_eq!(answer.status, 200, "{query}: {text}");
    let decode = |name: String| if encoded { decoded(&name) } else { name };
    let mut items: Vec<String> = xml::texts(&text, "Key").into_iter().map(decode).collect();
    let folders = xml::all_inner(&text, "CommonPrefixes");
    let folders = folders.iter().map(|folder| decode(xml::text(folder, "Prefix").unwrap()));
    items.extend(folders);
    items.sort();
    assert!(items.len() <= asked.most, "{query}: {text}");
    if let Form::Two = form {
        assert_eq!(xml::text(&text, "KeyCount").unwrap(), items.len().to_string());
    }
    let token = match form {
        Form::One => xml::text(&text, "NextMarker").map(decode),
        Form::Two => xml::text(&text, "NextContinuationToken"),
        Form::Versions => xml::text(&text, "NextKeyMarker").map(decode),
    };
    let more = xml::text(&text, "IsTruncated").unwrap() == "true";
    match form {
        // without common prefixes, clients continue after the last key
        Form::One if asked.delimiter.is_empty() => assert_eq!(token, None, "{text}"),
        _ => assert_eq!(token.is_some(), more, "{text}"),
    }
    let next = token.or_else(|| items.last().cloned()).filter(|_| more);
    (items, next)
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

/// Keys of few letters, so that they share prefixes; also some outside the bucket, and unlinked ones.
fn random_keys(random: &mut Random) -> BTreeMap<Vec<u8>, bool> {
    let pieces = ["a", "b", "/", "//", "-", " ", "&", "+", "\u{e4}", "\u{1f600}", "a/", "ab"];
    let mut keys = BTreeMap::new();
    for _ in 0..random.below(120) {
        let mut key = String::new();
        for _ in 0..=random.below(6) {
            key += *random.pick(&pieces);
        }
        let bucket =
            *random.pick(&["/bucket/", "/bucket/", "/bucket/", "/bucke/", "/bucket", "/buckets/", "/a"]);
        keys.insert(format!("{bucket}{key}").into_bytes(), random.below(5) > 0);
    }
    keys
}

#[test]
fn pages_equal_a_scan_of_all_keys() {
    let mut random = Random::seeded();
    let mut pages = 0;
    for _ in 0..6 {
        let tempdir = tempfile::tempdir().unwrap();
        let db = tempdir.path().join("db");
        let keys = random_keys(&mut random);
        load(&db, &keys, Vec::new);
        let (_master, s3) = master(&db);
        let name = |(key, live): (&Vec<u8>, &bool)| {
            let key = std::str::from_utf8(key).unwrap().strip_prefix("/bucket/").filter(|_| *live);
            key.filter(|key| !key.is_empty()).map(str::to_owned)
        };
        let names: Vec<String> = keys.iter().filter_map(name).collect();
        for _ in 0..60 {
            let some = |random: &mut Random, others: &[&str]| match random.below(3) {
                0 => String::new(),
                1 => (*random.pick(others)).to_owned(),
                _ if names.is_empty() => String::new(),
                _ => {
                    let name: Vec<char> = random.pick(&names).chars().collect();
                    let length = usize::try_from(random.below(name.len() as u64 + 1)).unwrap();
                    name[..length].iter().collect()
                }
            };
            let asked = Asked {
                prefix: some(&mut random, &["a", "a/", "/", "b", "zz"]),
                delimiter: (*random.pick(&["", "/", "/", "a", "//", "ab", "a/", "\u{e4}"])).to_owned(),
                after: some(&mut random, &["a/", "a", "\u{10ffff}", " ", "a/a/"]),
                most: *random.pick(&[0, 1, 2, 3, 7, 1000]),
            };
            let form = *random.pick(&[Form::One, Form::Two, Form::Versions]);
            let encoded = random.below(2) == 0;
            let shown = format!(
                "{form:?} prefix={:?} delimiter={:?} after={:?} most={} of {names:?}",
                asked.prefix, asked.delimiter, asked.after, asked.most
            );
            let expected = if asked.most == 0 { Vec::new() } else { asked.expected(&names) };
            let (mut listed, mut next) = (Vec::new(), String::new());
            loop {
                pages += 1;
                let (items, more) = page(&s3, &asked, form, &next, encoded);
                assert!(more.is_none() || items.len() == asked.most, "a short page: {shown}");
                listed.extend(items);
                assert!(listed.len() <= expected.len(), "{listed:?} is more than {expected:?}: {shown}");
                match more {
                    Some(more) => next = more,
                    None => break,
                }
            }
            assert_eq!(listed, expected, "{shown}");
        }
    }
    println!("{pages} pages");
}

/// S3's rules for the parameters.
#[test]
fn invalid_parameters_are_refused() {
    let (_cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    for query in [
        "list-type=2&continuation-token=%20",
        "list-type=2&continuation-token=garbage!",
        "list-type=2&continuation-token=____",
        "list-type=2&continuation-token=%FF",
        "list-type=2&max-keys=-1",
        "list-type=2&max-keys=x",
        "list-type=2&max-keys=",
        "list-type=2&max-keys=99999999999999999999",
        "max-keys=-2147483648",
        "versions&max-keys=-1",
        "encoding-type=base64",
        "list-type=2&encoding-type=",
        "uploads&max-uploads=-1",
        "list-type=2&fetch-owner=maybe",
    ] {
        let answer = s3.get(&format!("/bucket?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        fails(&answer, 400, "InvalidArgument");
    }
    for query in
        ["prefix=a&prefix=b", "list-type=2&max-keys=1&max-keys=2", "list-type=2&delimiter=&delimiter="]
    {
        fails(&s3.get(&format!("/bucket?{query}")), 400, "InvalidRequest");
    }
    for query in ["max-keys=1000000", "list-type=2&max-keys=2147483647", "versions&max-keys=1001"] {
        let text = s3.get(&format!("/bucket?{query}")).text();
        assert_eq!(xml::text(&text, "MaxKeys").as_deref(), Some("1000"), "{text}");
    }
}

#[test]
fn a_listing_describes_its_objects() {
    let (_cluster, s3) = open();
    let tag = s3.put("/bucket/a", b"value");
    let one = s3.get("/bucket").text();
    let two = s3.get("/bucket?list-type=2").text();
    let owned = s3.get("/bucket?list-type=2&fetch-owner=true").text();
    let versions = s3.get("/bucket?versions").text();
    for text in [&one, &two, &owned, &versions] {
        assert_eq!(xml::text(text, "ETag").as_ref(), Some(&tag), "{text}");
        assert_eq!(xml::text(text, "Size").as_deref(), Some("5"));
        assert_eq!(xml::text(text, "StorageClass").as_deref(), Some("STANDARD"));
        assert_eq!(xml::text(text, "Name").as_deref(), Some("bucket"));
        let modified = xml::text(text, "LastModified").unwrap();
        assert!(modified.starts_with("20") && modified.ends_with('Z'), "{modified}");
    }
    assert_eq!(
        [&one, &two, &owned, &versions].map(|text| text.contains("<Owner>")),
        [true, false, true, true]
    );
    assert_eq!(xml::text(&versions, "VersionId").as_deref(), Some("null"));
    assert_eq!(xml::text(&versions, "IsLatest").as_deref(), Some("true"));
}

/// Keys that S3 can't name must not make a listing endless.
#[test]
fn keys_that_s3_cannot_name_are_left_out() {
    let tempdir = tempfile::tempdir().unwrap();
    let db = tempdir.path().join("db");
    let keys: [&[u8]; 9] = [
        b"/bucket/",
        b"/bucket/a",
        b"/bucket/\x80",
        b"/bucket/b\xff/1",
        b"/bucket/b\xff/2",
        b"/bucket/c",
        b"/bucket/\xf0\x9f\x98\x80",
        b"/bucket/\xff1",
        b"/bucket/\xff2",
    ];
    load(&db, &keys.map(|key| (key.to_vec(), true)).into(), Vec::new);
    let (_master, s3) = master(&db);
    for most in [1, 2, 3, 1000] {
        for form in [Form::One, Form::Two, Form::Versions] {
            for delimiter in ["", "/"] {
                let (prefix, after) = (String::new(), String::new());
                let asked = Asked { prefix, delimiter: delimiter.to_owned(), after, most };
                let (mut listed, mut next, mut pages) = (Vec::new(), String::new(), 0);
                loop {
                    let (items, more) = page(&s3, &asked, form, &next, false);
                    listed.extend(items);
                    pages += 1;
                    assert!(pages < 10, "{listed:?}");
                    match more {
                        Some(more) => next = more,
                        None => break,
                    }
                }
                assert_eq!(listed, ["a", "c", "\u{1f600}"], "{form:?} {delimiter:?} {most}");
            }
        }
    }
}

const FOLDERS: usize = 10;
const IN_EACH: usize = 10_000;

/// Bytes in each record that no listing shows.
const PADDING: usize = 320;

/// Upper bound on the bytes of the index's files that a listing of the folders reads: some blocks of 4 KiB
/// for each. All rows are more than 20 times as much.
const READ: u64 = 1 << 20;

/// The bytes that the process has read so far, from files and otherwise.
fn read_so_far(master: &Master) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", master.pid())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn a_listing_of_folders_does_not_read_what_is_in_them() {
    let tempdir = tempfile::tempdir().unwrap();
    let db = tempdir.path().join("db");
    let key = |folder: usize, n: usize| format!("/bucket/top/{folder}/{n:06}").into_bytes();
    let keys = (0..FOLDERS * IN_EACH).map(|n| (key(n / IN_EACH, n % IN_EACH), true));
    let random = std::sync::Mutex::new(Random(1));
    let padding = || {
        // LevelDB would compress repetitive data
        let mut random = random.lock().unwrap();
        let digits = std::iter::repeat_with(|| format!("{:016x}", random.next()));
        vec![("x-amz-meta-padding".to_owned(), digits.take(PADDING / 16).collect())]
    };
    load(&db, &keys.collect(), padding);
    let (master, s3) = master(&db);
    let folders: Vec<String> = (0..FOLDERS).map(|folder| format!("top/{folder}/")).collect();
    for (query, expected) in [
        ("list-type=2&prefix=top/&delimiter=/", &folders[..]),
        ("list-type=2&prefix=top/&delimiter=/&start-after=top/4/", &folders[5..]),
        ("prefix=top/&delimiter=/&marker=top/7/", &folders[8..]),
        ("versions&delimiter=/", &["top/".to_owned()]),
    ] {
        let before = read_so_far(&master);
        let text = s3.get(&format!("/bucket?{query}")).text();
        let found: Vec<_> = xml::all_inner(&text, "CommonPrefixes")
            .iter()
            .map(|folder| xml::text(folder, "Prefix").unwrap())
            .collect();
        assert_eq!(found, expected);
        assert_eq!(xml::text(&text, "IsTruncated").as_deref(), Some("false"));
        let read = read_so_far(&master) - before;
        println!("{query}: {} KiB read", read / 1024);
        assert!(read < READ, "{query}: {read} bytes were read");
    }
    // checks the measurement: a page of all keys reads much more
    let before = read_so_far(&master);
    s3.get("/bucket?list-type=2");
    let page = read_so_far(&master) - before;
    println!("a page of 1000 keys: {} KiB read", page / 1024);
    assert!(page > 1000 * (PADDING as u64) / 2, "{page}");
}

/// Uploads are listed by the rules for objects, except that a key may have several.
#[test]
fn uploads_and_parts_are_listed_in_pages() {
    let (_cluster, s3) = open();
    let mut uploads = Vec::new();
    for key in ["a", "a", "b/1", "b/2", "b/2", "c/1", "d", "d", "d", "e/1/2", "\u{e4} &"] {
        uploads.push((key.to_owned(), s3.begin(&format!("/bucket/{}", encode(key, "/")), &[])));
    }
    s3.begin("/buckets/a", &[]);
    uploads.sort();
    let list = |query: &str| {
        let answer = s3.get(&format!("/bucket?uploads{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    };
    for most in [1, 2, 3, 5, 1000] {
        let (mut listed, mut markers) = (Vec::new(), String::new());
        loop {
            let text = list(&format!("&max-uploads={most}{markers}"));
            let page = xml::all_inner(&text, "Upload");
            assert!(page.len() <= most);
            listed.extend(
                page.iter().map(|upload| {
                    (xml::text(upload, "Key").unwrap(), xml::text(upload, "UploadId").unwrap())
                }),
            );
            if xml::text(&text, "IsTruncated").unwrap() == "false" {
                break;
            }
            markers = format!(
                "&key-marker={}&upload-id-marker={}",
                encode(&xml::text(&text, "NextKeyMarker").unwrap(), ""),
                xml::text(&text, "NextUploadIdMarker").unwrap()
            );
        }
        assert_eq!(listed, uploads, "{most}");
    }
    let (mut folders, mut keys, mut markers) = (Vec::new(), Vec::new(), String::new());
    loop {
        let text = list(&format!("&delimiter=/&max-uploads=2{markers}"));
        keys.extend(xml::texts(&text, "Key"));
        let found = xml::all_inner(&text, "CommonPrefixes");
        folders.extend(found.iter().map(|folder| xml::text(folder, "Prefix").unwrap()));
        if xml::text(&text, "IsTruncated").unwrap() == "false" {
            break;
        }
        markers = format!(
            "&key-marker={}&upload-id-marker={}",
            encode(&xml::text(&text, "NextKeyMarker").unwrap(), ""),
            xml::text(&text, "NextUploadIdMarker").unwrap_or_default()
        );
    }
    assert_eq!(folders, ["b/", "c/", "e/"]);
    assert_eq!(keys, ["a", "a", "d", "d", "d", "\u{e4} &"]);
    assert_eq!(xml::texts(&list("&prefix=b/"), "Key"), ["b/1", "b/2", "b/2"]);
    assert_eq!(xml::texts(&list("&key-marker=c"), "Key").len(), 6);
    assert_eq!(xml::text(&list("&max-uploads=0"), "IsTruncated").as_deref(), Some("false"));
    // parts
    let (key, upload) = &uploads[0];
    let numbers = [1, 2, 3, 10, 11, 9999, 10_000];
    for number in numbers {
        s3.put_part(&format!("/bucket/{key}"), upload, number, b"part");
    }
    for most in [1, 2, 3, 6, 7, 8] {
        let (mut listed, mut marker) = (Vec::new(), String::new());
        loop {
            let text = s3.get(&format!("/bucket/{key}?uploadId={upload}&max-parts={most}{marker}")).text();
            let page = xml::texts(&text, "PartNumber");
            assert!(page.len() <= most, "{text}");
            listed.extend(page);
            if xml::text(&text, "IsTruncated").unwrap() == "false" {
                break;
            }
            marker = format!("&part-number-marker={}", xml::text(&text, "NextPartNumberMarker").unwrap());
        }
        assert_eq!(listed, numbers.map(|number| number.to_string()), "{most}");
    }
    let none = s3.get(&format!("/bucket/{key}?uploadId={upload}&max-parts=0")).text();
    assert_eq!(xml::text(&none, "IsTruncated").as_deref(), Some("false"));
}
