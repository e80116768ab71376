//! S3's checksums, computed while bytes pass through.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A kind of checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Crc32,
    Crc32C,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32C, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// S3's name of the algorithm.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32C => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The algorithm with this name, in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The header or trailer that carries the checksum.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32C => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The algorithm of the header with this name, in any case.
    pub(super) fn of_header(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.header().eq_ignore_ascii_case(name))
    }

    /// The checksum's length in bytes.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32C => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// A checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) algorithm: Algorithm,
    /// Its bytes, big-endian.
    pub(super) value: Vec<u8>,
}

impl Sum {
    /// Parses base64; `None` if it is invalid or doesn't have the algorithm's length.
    pub(super) fn parse(algorithm: Algorithm, base64: &str) -> Option<Self> {
        let value = STANDARD.decode(base64).ok()?;
        (value.len() == algorithm.width()).then_some(Self { algorithm, value })
    }

    /// As base64, for headers and XML.
    pub(super) fn base64(&self) -> String {
        STANDARD.encode(&self.value)
    }

    /// The checksum of the checksums of an object's parts, in their order.
    pub(super) fn of_parts<'s>(algorithm: Algorithm, parts: impl IntoIterator<Item = &'s Self>) -> Self {
        let mut hasher = Hasher::new(algorithm);
        parts.into_iter().for_each(|part| hasher.update(&part.value));
        hasher.finish()
    }
}

/// A checksum that is being computed.
pub(super) struct Hasher {
    algorithm: Algorithm,
    state: State,
}

enum State {
    // boxed, because with its tables it is three times as large as the others
    Crc(Box<Crc>),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        let crc = |algorithm| State::Crc(Box::new(Crc::new(algorithm)));
        let state = match algorithm {
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32C => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 => State::Sha1(Sha1::new()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
        };
        Self { algorithm, state }
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        match &mut self.state {
            State::Crc(crc) => crc.update(data),
            State::Sha1(sha) => sha.update(data),
            State::Sha256(sha) => sha.update(data),
        }
    }

    pub(super) fn finish(self) -> Sum {
        let unused = 8_usize.saturating_sub(self.algorithm.width());
        let value = match self.state {
            State::Crc(crc) => crc.finalize().to_be_bytes().into_iter().skip(unused).collect(),
            State::Sha1(sha) => sha.finalize().to_vec(),
            State::Sha256(sha) => sha.finalize().to_vec(),
        };
        Sum { algorithm: self.algorithm, value }
    }
}

/// Several checksums of the same bytes.
#[derive(Default)]
pub(super) struct Checksums(Vec<Hasher>);

impl Checksums {
    /// For these algorithms; duplicates are computed once.
    pub(super) fn new(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        let mut hashers: Vec<Hasher> = Vec::new();
        for algorithm in algorithms {
            if hashers.iter().all(|hasher| hasher.algorithm != algorithm) {
                hashers.push(Hasher::new(algorithm));
            }
        }
        Self(hashers)
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        for hasher in &mut self.0 {
            hasher.update(data);
        }
    }

    /// The sums, in the order of the algorithms.
    pub(super) fn finish(self) -> Vec<Sum> {
        self.0.into_iter().map(Hasher::finish).collect()
    }
}

/// Checksums of bytes that pass through the store.
#[derive(Clone)]
pub(super) struct Tapped(Arc<Mutex<Checksums>>);

impl Tapped {
    pub(super) fn new(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        Self(Arc::new(Mutex::new(Checksums::new(algorithms))))
    }

    pub(super) fn tap(&self) -> impl FnMut(&Bytes) + Send + 'static {
        let Self(sums) = self.clone();
        move |bytes| sums.lock().unwrap_or_else(PoisonError::into_inner).update(bytes)
    }

    pub(super) fn finish(&self) -> Vec<Sum> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use proptest::prelude::*;

    fn sum(algorithm: Algorithm, data: &[u8]) -> Sum {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(data);
        hasher.finish()
    }

    fn hex(sum: &Sum) -> String {
        use std::fmt::Write as _;
        sum.value.iter().fold(String::new(), |mut digits, byte| {
            write!(digits, "{byte:02x}").unwrap();
            digits
        })
    }

    #[test]
    fn sums_match_known_values() {
        // the check values of the catalogue of CRCs, and the output of sha1sum and sha256sum
        for (algorithm, expected) in [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32C, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ] {
            assert_eq!(hex(&sum(algorithm, b"123456789")), expected, "{algorithm:?}");
        }
        // sent by pyarrow with these bytes
        assert_eq!(sum(Algorithm::Crc64Nvme, b"hello world").base64(), "jSnVw/bqjr4=");
        assert_eq!(sum(Algorithm::Crc32, b"").base64(), "AAAAAA==");
    }

    #[test]
    fn each_algorithm_has_unique_names_and_a_width() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::named(algorithm.name()), Some(algorithm));
            assert_eq!(Algorithm::named(&algorithm.name().to_lowercase()), Some(algorithm));
            assert_eq!(Algorithm::of_header(algorithm.header()), Some(algorithm));
            assert_eq!(Algorithm::of_header(&algorithm.header().to_uppercase()), Some(algorithm));
            assert_eq!(sum(algorithm, b"x").value.len(), algorithm.width());
        }
        assert_eq!(Algorithm::named("XXHASH64"), None);
        assert_eq!(Algorithm::of_header("x-amz-checksum-mode"), None);
    }

    #[test]
    fn a_sum_is_read_from_base64_of_its_length_alone() {
        for algorithm in Algorithm::ALL {
            let sum = sum(algorithm, b"x");
            assert_eq!(Sum::parse(algorithm, &sum.base64()), Some(sum.clone()));
            let base64 = sum.base64();
            for wrong in ["", "?", &base64[1..], &base64[4..], &format!("{base64}-2"), &format!(" {base64}")]
            {
                assert_eq!(Sum::parse(algorithm, wrong), None, "{algorithm:?} {wrong}");
            }
        }
    }

    #[test]
    fn a_sum_of_parts_is_the_sum_of_their_sums() {
        let parts = [sum(Algorithm::Crc32, b"12345"), sum(Algorithm::Crc32, b"6789")];
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.value.clone()).collect();
        assert_eq!(Sum::of_parts(Algorithm::Crc32, &parts), sum(Algorithm::Crc32, &bytes));
    }

    proptest! {
        #[test]
        fn sums_do_not_depend_on_pieces(data: Vec<u8>, step in 1..20_usize) {
            let mut checksums = Checksums::new(Algorithm::ALL.into_iter().chain(Algorithm::ALL));
            data.chunks(step).for_each(|piece| checksums.update(piece));
            let whole = Algorithm::ALL.map(|algorithm| sum(algorithm, &data));
            prop_assert_eq!(checksums.finish(), whole);
        }
    }
}
