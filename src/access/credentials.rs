//! The contents of a file of keys, and the requests that they permit.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// The right that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Read and list keys.
    Read,
    /// Store, unlink and delete keys.
    Write,
    /// Operations on the store as a whole. Includes the other two.
    Admin,
}

/// A secret that client and master share. Its `Debug` hides it; only `expose` returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) Arc<str>);

/// The contents of a file of keys.
#[derive(Default)]
pub(super) struct Credentials {
    pub(super) public: Buckets,
    pub(super) by_access: HashMap<String, Arc<Credential>>,
    pub(super) by_secret: HashMap<Fingerprint, Arc<Credential>>,
}

/// A client's key.
pub(super) struct Credential {
    pub(super) access: String,
    pub(super) secret: Secret,
    pub(super) buckets: Buckets,
    pub(super) allow: Vec<Right>,
}

/// Names of buckets, or prefixes of names followed by `*`.
#[derive(Default)]
pub(super) struct Buckets(pub(super) Vec<String>);

/// A secret's SHA-256. The time of a lookup depends on hashes, which an attacker can't choose, so it doesn't
/// reveal how much of a guessed secret is right.
pub(super) type Fingerprint = [u8; 32];

impl Credentials {
    pub(super) fn permit(&self, who: Option<&str>, right: Right, bucket: Option<&str>) -> bool {
        let public = right == Right::Read && self.public.cover(bucket);
        public || who.and_then(|who| self.by_access.get(who)).is_some_and(|key| key.permits(right, bucket))
    }
}

impl Credential {
    fn permits(&self, right: Right, bucket: Option<&str>) -> bool {
        let has = |right| self.allow.contains(&right);
        (has(right) || has(Right::Admin)) && self.buckets.cover(bucket)
    }
}

impl Buckets {
    /// Whether the bucket matches; for `None`, whether all buckets do.
    fn cover(&self, bucket: Option<&str>) -> bool {
        self.0.iter().any(|pattern| match (pattern.strip_suffix('*'), bucket) {
            (Some(start), Some(bucket)) => bucket.starts_with(start),
            (Some(start), None) => start.is_empty(),
            (None, bucket) => bucket == Some(pattern),
        })
    }
}

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

pub(super) fn fingerprint(secret: &[u8]) -> Fingerprint {
    Sha256::digest(secret).into()
}
