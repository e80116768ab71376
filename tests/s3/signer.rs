//! Signatures as clients make them: AWS Signature Version 4, implemented from its specification rather than
//! from the master's code.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
pub(crate) const SIGNED_CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
pub(crate) const SIGNED_CHUNKS_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
pub(crate) const CHUNKS_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// Headers of a request; names in lower case.
pub(crate) type Headers = Vec<(String, String)>;

/// A client's credential, at a given time.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) access: String,
    pub(crate) secret: String,
    pub(crate) time: SystemTime,
}

/// Signs the chunks of a body, one after the other.
pub(crate) struct ChunkSigner<'s> {
    signer: &'s Signer,
    previous: String,
}

impl Signer {
    pub(crate) fn new(access: &str, secret: &str) -> Self {
        Self { access: access.to_owned(), secret: secret.to_owned(), time: SystemTime::now() }
    }

    pub(crate) fn later(&self, by: Duration) -> Self {
        Self { time: self.time + by, ..self.clone() }
    }

    pub(crate) fn earlier(&self, by: Duration) -> Self {
        Self { time: self.time - by, ..self.clone() }
    }

    /// Signs a request in its headers: all given ones, `host` and the date. Returns the signature.
    pub(crate) fn sign(
        &self,
        method: &str,
        host: &str,
        target: &str,
        headers: &mut Headers,
        payload: &str,
    ) -> String {
        headers.push(("host".into(), host.to_owned()));
        headers.push(("x-amz-date".into(), self.date()));
        headers.push(("x-amz-content-sha256".into(), payload.to_owned()));
        let (names, canonical) = canonical_headers(headers);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = format!(
            "{method}\n{path}\n{}\n{canonical}\n{names}\n{payload}",
            canonical_query(query.split('&').filter(|pair| !pair.is_empty()))
        );
        let signature = self.signature_of(&request);
        let scope = self.scope();
        headers.push((
            "authorization".into(),
            format!(
                "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
                self.access
            ),
        ));
        signature
    }

    /// The target with a signature in its query, valid for `seconds`.
    pub(crate) fn presign(
        &self,
        method: &str,
        host: &str,
        target: &str,
        headers: &Headers,
        expires: u64,
    ) -> String {
        let mut headers = headers.clone();
        headers.push(("host".into(), host.to_owned()));
        let (names, canonical) = canonical_headers(&headers);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let own = [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("X-Amz-Credential", format!("{}/{}", self.access, self.scope())),
            ("X-Amz-Date", self.date()),
            ("X-Amz-Expires", expires.to_string()),
            ("X-Amz-SignedHeaders", names.clone()),
        ];
        let own = own.map(|(name, value)| format!("{name}={}", encode(&value, "")));
        let all = query.split('&').filter(|pair| !pair.is_empty()).chain(own.iter().map(String::as_str));
        let query = canonical_query(all);
        let request = format!("{method}\n{path}\n{query}\n{canonical}\n{names}\n{UNSIGNED}");
        format!("{path}?{query}&X-Amz-Signature={}", self.signature_of(&request))
    }

    pub(crate) fn chunks(&self, seed: String) -> ChunkSigner<'_> {
        ChunkSigner { signer: self, previous: seed }
    }

    /// `20130524T000000Z`.
    pub(crate) fn date(&self) -> String {
        // Fri, 24 May 2013 00:00:00 GMT
        let date = httpdate::fmt_http_date(self.time);
        let words: Vec<&str> = date.split(' ').collect();
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = 1 + months.iter().position(|month| *month == words[2]).unwrap();
        format!("{}{month:02}{}T{}Z", words[3], words[1], words[4].replace(':', ""))
    }

    fn scope(&self) -> String {
        format!("{}/us-east-1/s3/aws4_request", &self.date()[..8])
    }

    fn signature_of(&self, request: &str) -> String {
        let hash = sha256(request.as_bytes());
        self.signature(&format!("AWS4-HMAC-SHA256\n{}\n{}\n{hash}", self.date(), self.scope()))
    }

    fn signature(&self, text: &str) -> String {
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in self.scope().split('/') {
            key = mac(&key, part.as_bytes());
        }
        hex(&mac(&key, text.as_bytes()))
    }
}

impl ChunkSigner<'_> {
    /// A framed chunk; an empty one is the last.
    pub(crate) fn chunk(&mut self, data: &[u8]) -> Vec<u8> {
        let lines = ["AWS4-HMAC-SHA256-PAYLOAD", &self.signer.date(), &self.signer.scope(), &self.previous];
        let text = format!("{}\n{}\n{}", lines.join("\n"), sha256(b""), sha256(data));
        self.previous = self.signer.signature(&text);
        let head = format!("{:x};chunk-signature={}\r\n", data.len(), self.previous);
        let end: &[u8] = if data.is_empty() { b"" } else { b"\r\n" };
        [head.as_bytes(), data, end].concat()
    }

    /// A signed trailer, and the body's end.
    pub(crate) fn trailer(&mut self, name: &str, value: &str) -> Vec<u8> {
        let lines = ["AWS4-HMAC-SHA256-TRAILER", &self.signer.date(), &self.signer.scope(), &self.previous];
        let hash = sha256(format!("{name}:{value}\n").as_bytes());
        let signature = self.signer.signature(&format!("{}\n{hash}", lines.join("\n")));
        format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n\r\n").into_bytes()
    }
}

/// The header names, separated by semicolons, and the header lines.
fn canonical_headers(headers: &Headers) -> (String, String) {
    let mut headers: Vec<(String, &str)> =
        headers.iter().map(|(name, value)| (name.to_lowercase(), value.trim())).collect();
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    (names.join(";"), lines.concat())
}

/// The pairs of a query, which are already encoded, sorted by name.
fn canonical_query<'p>(pairs: impl Iterator<Item = &'p str>) -> String {
    let pair = |pair: &str| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") };
    let mut pairs: Vec<String> = pairs.map(pair).collect();
    pairs.sort();
    pairs.join("&")
}

/// Percent-encodes everything except the characters that S3's signatures leave, and `leave`.
pub(crate) fn encode(text: &str, leave: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        let char = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(char) || (byte < 128 && leave.contains(char)) {
            encoded.push(char);
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
    }
    encoded
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

/// The hash in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The hash in base64, as a checksum.
pub(crate) fn sha256_sum(bytes: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(bytes))
}

/// The MAC in base64, as in signatures of version 2.
pub(crate) fn sha1_mac(key: &str, text: &str) -> String {
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The examples of the S3 API Reference verify the signer itself.
#[test]
fn the_reference_examples_have_these_signatures() {
    let mut signer = Signer::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    signer.time = httpdate::parse_http_date("Fri, 24 May 2013 00:00:00 GMT").unwrap();
    let host = "examplebucket.s3.amazonaws.com";
    let mut headers = vec![("range".to_owned(), "bytes=0-9".to_owned())];
    let signature = signer.sign("GET", host, "/test.txt", &mut headers, &sha256(b""));
    assert_eq!(signature, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    let target = signer.presign("GET", host, "/test.txt", &Headers::new(), 86400);
    assert!(target.ends_with("aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"), "{target}");
    let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    let mut chunks = signer.chunks(seed.to_owned());
    chunks.chunk(&vec![b'a'; 65536]);
    chunks.chunk(&[b'a'; 1024]);
    let last = "0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n";
    assert_eq!(String::from_utf8(chunks.chunk(b"")).unwrap(), last);
}
