//! Who may do what: clients' keys, from a file that the operator writes.
//!
//! ```toml
//! public-read = ["www"]              # buckets that anybody may read and list
//!
//! [[key]]
//! access = "AKIAPHOTOS"
//! secret = "…"                       # 8 bytes at least
//! buckets = ["photos", "backup-*"]   # names, or what they begin with and a *; ["*"] is all
//! allow = ["read", "write"]          # read, write, admin; admin is all three
//! ```
//!
//! Without a file everything is allowed to everybody. The file is read again when the operator says so; one
//! that is wrong changes nothing.

mod credentials;
mod file;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;

use credentials::{Credentials, fingerprint};
pub use credentials::{Right, Secret};

/// Who may do what. Cheap to clone; all clones see a reload.
#[derive(Clone, Default)]
pub struct Access(Option<Arc<Source>>);

/// A file, and its contents when it was last read.
struct Source {
    path: PathBuf,
    keys: RwLock<Arc<Credentials>>,
}

/// The credentials of a request are none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialsError;

impl Access {
    /// Everything is allowed to everybody.
    #[must_use]
    pub fn open() -> Self {
        Self(None)
    }

    /// Reads a file of keys. If others can read the file, the log warns of it.
    ///
    /// # Errors
    ///
    /// The file can't be read, or is wrong; one line that says what to do.
    pub fn load(path: &Path) -> Result<Self, String> {
        let keys = RwLock::new(Arc::new(file::read(path)?));
        Ok(Self(Some(Arc::new(Source { path: path.to_owned(), keys }))))
    }

    /// Reads the file again, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Access::load`]; all stays as it was.
    pub fn reload(&self) -> Result<(), String> {
        let Some(source) = &self.0 else { return Ok(()) };
        // read before the lock is taken: nobody waits for the disk
        let keys = Arc::new(file::read(&source.path)?);
        *source.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Whether everything is allowed to everybody.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// The access key whose credentials an `Authorization` header holds: access key and secret (HTTP Basic),
    /// or the secret alone (Bearer). `None` without a header, and whenever everything is open.
    ///
    /// # Errors
    ///
    /// No key has these credentials.
    pub fn authenticate(
        &self,
        authorization: Option<&HeaderValue>,
    ) -> Result<Option<String>, CredentialsError> {
        let (Some(keys), Some(header)) = (self.keys(), authorization) else { return Ok(None) };
        let (user, secret) = credentials(header.as_bytes()).ok_or(CredentialsError)?;
        // looked up by the secret: a wrong one tells nothing about which access keys there are
        let key = keys.by_secret.get(&fingerprint(&secret)).ok_or(CredentialsError)?;
        if user.is_some_and(|user| user != key.access.as_bytes()) {
            return Err(CredentialsError);
        }
        Ok(Some(key.access.clone()))
    }

    /// The secret of an access key, to check signatures with.
    #[must_use]
    pub fn secret(&self, access_key: &str) -> Option<Secret> {
        Some(self.keys()?.by_access.get(access_key)?.secret.clone())
    }

    /// Whether `who`, an access key or anybody, may do that in a bucket, or in all of them.
    #[must_use]
    pub fn permits(&self, who: Option<&str>, right: Right, bucket: Option<&str>) -> bool {
        self.keys().is_none_or(|keys| keys.permit(who, right, bucket))
    }

    /// Whether `who` may read a bucket, for many buckets, by one version of the file.
    pub fn readable_by(&self, who: Option<&str>) -> impl Fn(&str) -> bool + Send + Sync + use<> {
        let (keys, who) = (self.keys(), who.map(str::to_owned));
        move |bucket| keys.as_ref().is_none_or(|keys| keys.permit(who.as_deref(), Right::Read, Some(bucket)))
    }

    /// The contents of the file when it was last read; `None` where everything is open.
    fn keys(&self) -> Option<Arc<Credentials>> {
        let source = self.0.as_ref()?;
        Some(Arc::clone(&source.keys.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no such key, or its secret is another")
    }
}

impl std::error::Error for CredentialsError {}

/// The user, if one is named, and the secret of a header (RFC 7617, RFC 6750).
fn credentials(header: &[u8]) -> Option<(Option<Vec<u8>>, Vec<u8>)> {
    let (scheme, rest) = header.split_at(header.iter().position(|byte| *byte == b' ')?);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some((None, rest.to_vec()));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let mut user = STANDARD.decode(rest).ok()?;
    let secret = user.split_off(user.iter().position(|byte| *byte == b':')?);
    Some((Some(user), secret.strip_prefix(b":")?.to_vec()))
}
