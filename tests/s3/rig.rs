//! Shared parts of these tests: clients, answers, and the contents of the volumes.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use davkv::key::Key;
use davkv::record::hex;
use md5::{Digest as _, Md5};
use tempfile::TempDir;

use crate::common::http::{Connection, Response, head, request};
use crate::common::{Cluster, Master, eventually};
use crate::signer::{Headers, Signer, sha256};
use crate::xml;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A header by which the master recognises an unsigned S3 request, on the port that both APIs share.
const MARK: (&str, &str) = ("amz-sdk-request", "attempt=1");

/// The minimum size of each part of an upload but the last.
pub(crate) const PART: usize = 5 << 20;

/// An S3 client, with a credential or without.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) addr: String,
    pub(crate) signer: Option<Signer>,
}

impl Client {
    /// A client without a credential.
    pub(crate) fn of(master: &Master) -> Self {
        Self { addr: master.addr(), signer: None }
    }

    /// A client with a credential, whose secret is its name and `-secret`.
    pub(crate) fn with_key(master: &Master, access: &str) -> Self {
        let signer = Signer::new(access, &format!("{access}-secret"));
        Self { addr: master.addr(), signer: Some(signer) }
    }

    /// The headers of a request, signed if the client has a credential.
    pub(crate) fn headers(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        payload: &str,
    ) -> Headers {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut all: Headers = headers.iter().map(owned).collect();
        match &self.signer {
            None => all.push(owned(&MARK)),
            Some(signer) => drop(signer.sign(method, &self.addr, target, &mut all, payload)),
        }
        all
    }

    /// Sends a request and returns its answer, whatever its status.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let payload = if self.signer.is_some() { sha256(body) } else { String::new() };
        let headers = self.headers(method, target, headers, &payload);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = request(&self.addr, method, target, &headers, body);
        check(&answer, method);
        answer
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.ask("GET", target, &[], b"")
    }

    #[track_caller]
    pub(crate) fn head(&self, target: &str) -> Response {
        self.ask("HEAD", target, &[], b"")
    }

    #[track_caller]
    pub(crate) fn delete(&self, target: &str) -> Response {
        self.ask("DELETE", target, &[], b"")
    }

    /// Stores an object, and returns its tag, including the quotes.
    #[track_caller]
    pub(crate) fn put(&self, target: &str, body: &[u8]) -> String {
        let answer = self.ask("PUT", target, &[], body);
        assert_eq!(answer.status, 200, "PUT {target}: {}", answer.text());
        etag(&answer)
    }

    /// The object's bytes.
    #[track_caller]
    pub(crate) fn bytes(&self, target: &str) -> Vec<u8> {
        let answer = self.get(target);
        assert_eq!(answer.status, 200, "GET {target}: {}", answer.text());
        answer.body
    }

    /// Begins an upload in parts, and returns its id.
    #[track_caller]
    pub(crate) fn begin(&self, target: &str, headers: &[(&str, &str)]) -> String {
        let answer = self.ask("POST", &format!("{target}?uploads"), headers, b"");
        assert_eq!(answer.status, 200, "POST {target}?uploads: {}", answer.text());
        xml::text(&answer.text(), "UploadId").unwrap()
    }

    /// Stores a part, and returns its tag.
    #[track_caller]
    pub(crate) fn put_part(&self, target: &str, upload: &str, number: u32, body: &[u8]) -> String {
        self.put(&format!("{target}?partNumber={number}&uploadId={upload}"), body)
    }

    /// Completes an upload with parts of these tags, numbered from 1.
    #[track_caller]
    pub(crate) fn complete(&self, target: &str, upload: &str, tags: &[String]) -> Response {
        self.complete_if(target, upload, tags, &[])
    }

    #[track_caller]
    pub(crate) fn complete_if(
        &self,
        target: &str,
        upload: &str,
        tags: &[String],
        headers: &[(&str, &str)],
    ) -> Response {
        let target = format!("{target}?uploadId={upload}");
        self.ask("POST", &target, headers, completion(tags).as_bytes())
    }

    /// Deletes objects with one request.
    #[track_caller]
    pub(crate) fn delete_all(&self, bucket: &str, keys: &[&str]) -> Response {
        let body = keys.iter().fold(String::new(), |mut body, key| {
            write!(body, "<Object><Key>{}</Key></Object>", xml::escape(key)).unwrap();
            body
        });
        self.ask("POST", &format!("/{bucket}?delete"), &[], format!("<Delete>{body}</Delete>").as_bytes())
    }

    /// The keys of a bucket.
    #[track_caller]
    pub(crate) fn keys(&self, bucket: &str) -> Vec<String> {
        let answer = self.get(&format!("/{bucket}?list-type=2"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        xml::texts(&answer.text(), "Key")
    }
}

/// The XML list of parts with these tags, numbered from 1.
pub(crate) fn completion(tags: &[String]) -> String {
    let mut parts = String::new();
    for (number, tag) in (1..).zip(tags) {
        write!(parts, "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>").unwrap();
    }
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

/// Asserts what holds for every S3 answer: it has a number, and an error has XML with its code.
#[track_caller]
pub(crate) fn check(answer: &Response, method: &str) {
    let id = answer.header("x-amz-request-id").unwrap_or_else(|| panic!("no number: {answer:?}"));
    assert!(id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    if method == "HEAD" || answer.status == 304 {
        assert!(answer.body.is_empty(), "{answer:?}");
    } else if answer.status >= 400 {
        let text = answer.text();
        assert_eq!(answer.header("content-type"), Some("application/xml"), "{text}");
        assert!(text.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error>"), "{text}");
        for part in ["Code", "Message"] {
            assert!(!xml::text(&text, part).unwrap_or_default().is_empty(), "no {part}: {text}");
        }
    }
}

/// Asserts that an answer is this error.
#[track_caller]
pub(crate) fn fails(answer: &Response, status: u16, code: &str) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(xml::text(&text, "Code").as_deref(), Some(code), "{text}");
}

#[track_caller]
pub(crate) fn etag(answer: &Response) -> String {
    answer.header("etag").unwrap_or_else(|| panic!("no ETag: {answer:?}")).to_owned()
}

/// The tag of an object that was uploaded in one piece.
pub(crate) fn tag_of(body: &[u8]) -> String {
    format!("\"{}\"", hex(&Md5::digest(body).into()))
}

/// Three volumes and a master with these flags; replaced files are deleted soon.
pub(crate) fn cluster(flags: &[&str]) -> Cluster {
    Cluster::new(3, &[&["--readergrace", "1s", "--quarantine", "1s"], flags].concat())
}

/// A master without credentials, which allows everything, and a client.
pub(crate) fn open() -> (Cluster, Client) {
    let cluster = cluster(&[]);
    let client = Client::of(&cluster.master);
    (cluster, client)
}

/// A master with credentials.
pub(crate) struct Guarded {
    pub(crate) cluster: Cluster,
    file: PathBuf,
    _tempdir: TempDir,
}

impl Guarded {
    pub(crate) fn new(keys: &str, flags: &[&str]) -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        let file = tempdir.path().join("keys.toml");
        write(&file, keys);
        let cluster = cluster(&[&["--credentials", file.to_str().unwrap()], flags].concat());
        Self { cluster, file, _tempdir: tempdir }
    }

    pub(crate) fn client(&self, access: &str) -> Client {
        Client::with_key(&self.cluster.master, access)
    }

    pub(crate) fn anybody(&self) -> Client {
        Client::of(&self.cluster.master)
    }

    /// Replaces the credentials, and waits until the master has reloaded them.
    #[track_caller]
    pub(crate) fn reload(&self, keys: &str) {
        write(&self.file, keys);
        let said = || self.cluster.master.log().matches("the keys were read again").count();
        let before = said();
        self.cluster.master.hang_up();
        eventually("the credentials are reloaded", PATIENCE, || said() > before);
    }
}

/// Writes a file that only its owner can read.
fn write(path: &PathBuf, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// An upload that stands still: the master has asked for the body, and received all but the last byte.
pub(crate) struct Halted {
    connection: Connection,
    last: u8,
}

impl Halted {
    #[track_caller]
    pub(crate) fn begin(client: &Client, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut connection = Connection::open(None, &client.addr).unwrap();
        let headers = [headers, &[("expect", "100-continue")]].concat();
        let headers = client.headers("PUT", target, &headers, &sha256(body));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        connection.send(&head(&client.addr, "PUT", target.as_bytes(), &headers, body.len())).unwrap();
        let asked = connection.receive_any("PUT").unwrap();
        assert_eq!(asked.status, 100, "{}", asked.text());
        let (last, first) = body.split_last().unwrap();
        connection.send(first).unwrap();
        Self { connection, last: *last }
    }

    /// Sends the last byte, and returns the answer.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Response {
        self.connection.send(&[self.last]).unwrap();
        let answer = self.connection.receive("PUT").unwrap();
        check(&answer, "PUT");
        answer
    }
}

/// Waits until each volume holds exactly these values, one file each.
#[track_caller]
pub(crate) fn eventually_holds_only(cluster: &Cluster, values: &[(&str, &[u8])]) {
    let mut expected: Vec<(Vec<u8>, Vec<u8>)> =
        values.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.to_vec())).collect();
    expected.sort();
    eventually("the volumes hold only the values", PATIENCE, || {
        cluster.volumes.iter().all(|volume| {
            let key = |path: &str| Key::from_path(&path["sv00".len()..]).unwrap().0.as_bytes().to_vec();
            let mut found: Vec<_> =
                volume.files().into_iter().map(|(path, value)| (key(&path), value)).collect();
            found.sort();
            found == expected
        })
    });
}

/// A value of `length` bytes that doesn't repeat itself, and depends on the seed.
pub(crate) fn value(seed: u64, length: usize) -> Vec<u8> {
    let mut random = crate::common::Random(seed);
    let mut value = Vec::with_capacity(length + 8);
    while value.len() < length {
        value.extend(random.next().to_le_bytes());
    }
    value.truncate(length);
    value
}
