//! The contents of a file of keys, and which requests they permit.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// The right that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Look at keys, and list them.
    Read,
    /// Store, hide and delete.
    Write,
    /// Operations on the store as a whole. This right includes the other two.
    Admin,
}

/// A secret that client and master share. It is shown nowhere, unless `expose` is called.
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

/// Names of buckets, or prefixes of names with a `*` behind them.
#[derive(Default)]
pub(super) struct Buckets(pub(super) Vec<String>);

/// A secret's SHA-256. Looking one up takes a time that tells of hashes, which nobody can choose, and
/// not how much of a secret was right.
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
    /// Whether that bucket is among them, or all of them are.
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
