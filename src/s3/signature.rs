//! Signatures of a body's chunks (AWS Signature Version 4). Each covers its chunk and the previous signature; the
//! first covers the request's signature.

use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};

/// SHA-256 of no bytes.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A signature's bytes.
pub(super) type Signature = [u8; 32];

/// Checks the signatures of chunks in their order.
pub(super) struct ChunkSigner {
    key: Hmac<Sha256>,
    /// The request's date and the scope of its credentials, a line each.
    context: String,
    /// The last valid signature, in hex.
    previous: String,
    /// The hash of the chunk's bytes so far.
    chunk: Sha256,
}

impl ChunkSigner {
    /// For a request whose own signature was checked.
    ///
    /// # Errors
    ///
    /// What the headers lack.
    pub(super) fn new(secret: &str, headers: &HeaderMap) -> Result<Self, &'static str> {
        let text = |value: Option<&hyper::header::HeaderValue>| {
            value.and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let authorization = text(headers.get(AUTHORIZATION)).ok_or("the request isn't signed by a header")?;
        let date = text(headers.get("x-amz-date")).ok_or("x-amz-date is missing")?;
        let fields =
            authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("the algorithm isn't AWS4-HMAC-SHA256")?;
        let field = |name: &str| {
            let mut fields = fields.split(',').filter_map(|field| field.trim().split_once('='));
            fields.find(|(field, _)| *field == name).map(|(_, value)| value)
        };
        let signature = field("Signature").and_then(|hex| unhex(hex.as_bytes()));
        let signature = signature.ok_or("the signature isn't 64 hex digits")?;
        // an access key may contain slashes
        let scope = field("Credential").and_then(|credential| {
            let (start, _) = credential.rmatch_indices('/').nth(3)?;
            credential.get(start + 1..)
        });
        let scope = scope.ok_or("the credential has no scope")?;
        let mut key = keyed(format!("AWS4{secret}").as_bytes())?;
        for part in scope.split('/') {
            key.update(part.as_bytes());
            key = keyed(&key.finalize().into_bytes())?;
        }
        let context = format!("{date}\n{scope}\n");
        Ok(Self { key, context, previous: hex(&signature), chunk: Sha256::new() })
    }

    /// Adds the chunk's next bytes.
    pub(super) fn update(&mut self, data: &[u8]) {
        self.chunk.update(data);
    }

    /// Ends the chunk; returns whether this is its signature.
    pub(super) fn is_chunk(&mut self, signature: &Signature) -> bool {
        let chunk = hex(&self.chunk.finalize_reset());
        self.is_next(signature, "AWS4-HMAC-SHA256-PAYLOAD", &[NOTHING, "\n", &chunk])
    }

    /// Whether this is the signature of the trailers, given as `name:value` lines sorted by name.
    pub(super) fn is_trailers(&mut self, signature: &Signature, trailers: &str) -> bool {
        let trailers = hex(&Sha256::digest(trailers));
        self.is_next(signature, "AWS4-HMAC-SHA256-TRAILER", &[&trailers])
    }

    fn is_next(&mut self, signature: &Signature, algorithm: &str, hashes: &[&str]) -> bool {
        let mut mac = self.key.clone();
        for part in [algorithm, "\n", &self.context, &self.previous, "\n"].iter().chain(hashes) {
            mac.update(part.as_bytes());
        }
        // in constant time
        let is_good = mac.verify_slice(signature).is_ok();
        self.previous = hex(signature);
        is_good
    }
}

fn keyed(key: &[u8]) -> Result<Hmac<Sha256>, &'static str> {
    Hmac::new_from_slice(key).map_err(|_length| "the key can't be used")
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes of 64 hex digits of either case; `None` for anything else.
pub(super) fn unhex(digits: &[u8]) -> Option<[u8; 32]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let half = |digit: &u8| char::from(*digit).to_digit(16).and_then(|half| u8::try_from(half).ok());
        *byte = half(high)? << 4 | half(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const CHUNKS: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    const SIGNATURES: [&str; 3] = [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ];
    const WITH_TRAILERS: &str = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";

    fn headers(authorization: &str) -> HeaderMap {
        let date = ("x-amz-date", "20130524T000000Z");
        [date, ("authorization", authorization)]
            .into_iter()
            .map(|(name, value)| (name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    /// A signer for the request in the examples of the S3 API Reference.
    fn signer(seed: &str) -> ChunkSigner {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature={seed}"
        );
        ChunkSigner::new(SECRET, &headers(&authorization)).unwrap()
    }

    /// Chunks of 64 KiB, 1 KiB and 0 bytes.
    fn follow(mut signer: ChunkSigner, signatures: [&str; 3]) -> ChunkSigner {
        for (length, signature) in [65536, 1024, 0].into_iter().zip(signatures) {
            // in two pieces
            signer.update(&vec![b'a'; length / 3]);
            signer.update(&vec![b'a'; length - length / 3]);
            assert!(signer.is_chunk(&unhex(signature.as_bytes()).unwrap()), "{length}");
        }
        signer
    }

    #[test]
    fn chunks_are_signed_as_in_the_example() {
        follow(signer(CHUNKS), SIGNATURES);
    }

    #[test]
    fn trailers_are_signed_as_in_the_example() {
        let signatures = [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ];
        let signature = b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
        let signature = unhex(signature).unwrap();
        let trailers = "x-amz-checksum-crc32c:sOO8/Q==\n";
        assert!(follow(signer(WITH_TRAILERS), signatures).is_trailers(&signature, trailers));
        let other = "x-amz-checksum-crc32c:sOO8/A==\n";
        assert!(!follow(signer(WITH_TRAILERS), signatures).is_trailers(&signature, other));
    }

    #[test]
    fn a_signature_is_valid_only_for_its_chunk_in_its_place() {
        let first = unhex(SIGNATURES[0].as_bytes()).unwrap();
        let chunk = vec![b'a'; 65536];
        for (seed, secret, data) in [
            (WITH_TRAILERS, SECRET, &chunk[..]),
            (CHUNKS, "another", &chunk[..]),
            (CHUNKS, SECRET, &chunk[1..]),
            (CHUNKS, SECRET, &vec![b'b'; 65536][..]),
        ] {
            let authorization =
                format!("AWS4-HMAC-SHA256 Credential=A/20130524/us-east-1/s3/aws4_request, Signature={seed}");
            let mut signer = ChunkSigner::new(secret, &headers(&authorization)).unwrap();
            signer.update(data);
            assert!(!signer.is_chunk(&first));
        }
        let mut signer = follow(signer(CHUNKS), SIGNATURES);
        signer.update(&chunk);
        assert!(!signer.is_chunk(&first), "played again");
    }

    #[test]
    fn an_access_key_may_have_slashes() {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=a/b/c/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, \
             Signature={CHUNKS}"
        );
        let mut signer = ChunkSigner::new(SECRET, &headers(&authorization)).unwrap();
        signer.update(&vec![b'a'; 65536]);
        assert!(signer.is_chunk(&unhex(SIGNATURES[0].as_bytes()).unwrap()));
    }

    #[test]
    fn a_request_without_a_valid_signature_header_has_no_signer() {
        let scope = "20130524/us-east-1/s3/aws4_request";
        for authorization in [
            String::new(),
            "Basic YTpi".to_owned(),
            format!("AWS4-ECDSA-P256-SHA256 Credential=A/{scope}, Signature={CHUNKS}"),
            format!("AWS4-HMAC-SHA256 Credential=A/{scope}"),
            format!("AWS4-HMAC-SHA256 Credential=A/{scope}, Signature=12"),
            format!("AWS4-HMAC-SHA256 Credential=A/{scope}, Signature={}", "g".repeat(64)),
            format!("AWS4-HMAC-SHA256 Credential=A/s3/aws4_request, Signature={CHUNKS}"),
            format!("AWS4-HMAC-SHA256 Signature={CHUNKS}"),
        ] {
            assert!(ChunkSigner::new(SECRET, &headers(&authorization)).is_err(), "{authorization}");
        }
        let mut dateless = headers(&format!("AWS4-HMAC-SHA256 Credential=A/{scope}, Signature={CHUNKS}"));
        assert!(ChunkSigner::new(SECRET, &dateless).is_ok());
        dateless.remove("x-amz-date");
        assert!(ChunkSigner::new(SECRET, &dateless).is_err());
    }

    #[test]
    fn hex_is_64_digits() {
        assert_eq!(hex(&unhex(CHUNKS.as_bytes()).unwrap()), CHUNKS);
        assert_eq!(unhex(CHUNKS.to_uppercase().as_bytes()), unhex(CHUNKS.as_bytes()));
        for wrong in [
            &CHUNKS[1..],
            &CHUNKS[2..],
            &format!("{CHUNKS}0"),
            &format!("{CHUNKS}00"),
            &format!("+{}", &CHUNKS[1..]),
        ] {
            assert_eq!(unhex(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
