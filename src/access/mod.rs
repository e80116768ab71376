//! Access control: clients' keys and their rights, from a file that the operator writes.
//!
//! ```toml
//! public-read = ["www"]              # buckets that anybody may read and list
//!
//! [[key]]
//! access = "AKIAPHOTOS"
//! secret = "…"                       # at least 8 bytes
//! buckets = ["photos", "backup-*"]   # names, or a prefix and *; ["*"] is all
//! allow = ["read", "write"]          # read, write, admin; admin includes the other two
//! ```
//!
//! Without a file anybody may do everything. The file is read again when the operator asks for it; an invalid
//! file changes nothing.

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

/// The rights of clients. Cheap to clone; all clones see a reload.
#[derive(Clone, Default)]
pub struct Access(Option<Arc<Source>>);

/// A file of keys, and its contents when it was last read.
struct Source {
    path: PathBuf,
    keys: RwLock<Arc<Credentials>>,
}

/// A request's credentials match no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialsError;

impl Access {
    /// Anybody may do everything.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self(None)
    }

    /// Reads a file of keys. Logs a warning if other users can read the file.
    ///
    /// # Errors
    ///
    /// The file can't be read, or is invalid; one line that says what to do.
    pub fn load(path: &Path) -> Result<Self, String> {
        let keys = RwLock::new(Arc::new(file::read(path)?));
        Ok(Self(Some(Arc::new(Source { path: path.to_owned(), keys }))))
    }

    /// Reads the file again, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Access::load`]; the old contents stay in effect.
    pub fn reload(&self) -> Result<(), String> {
        let Some(source) = &self.0 else { return Ok(()) };
        // read before the lock is taken, so that no request waits for the disk
        let keys = Arc::new(file::read(&source.path)?);
        *source.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Whether anybody may do everything.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.0.is_none()
    }

    /// The access key of the credentials in an `Authorization` header: access key and secret (HTTP Basic),
    /// or the secret alone (Bearer). `None` without a header, and if access is unrestricted.
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
        // looked up by the secret, so that guesses don't reveal which access keys exist
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

    /// Whether `who` (an access key, or `None` for anybody) has the right in a bucket, or in all if `None`.
    #[must_use]
    pub fn permits(&self, who: Option<&str>, right: Right, bucket: Option<&str>) -> bool {
        self.keys().is_none_or(|keys| keys.permit(who, right, bucket))
    }

    /// A function that tells whether `who` may read a bucket, all by one version of the file.
    pub fn readable_by(&self, who: Option<&str>) -> impl Fn(&str) -> bool + Send + Sync + use<> {
        let (keys, who) = (self.keys(), who.map(str::to_owned));
        move |bucket| keys.as_ref().is_none_or(|keys| keys.permit(who.as_deref(), Right::Read, Some(bucket)))
    }

    /// The contents of the file when it was last read; `None` if access is unrestricted.
    fn keys(&self) -> Option<Arc<Credentials>> {
        let source = self.0.as_ref()?;
        Some(Arc::clone(&source.keys.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown key, or wrong secret")
    }
}

impl std::error::Error for CredentialsError {}

/// The user, if any, and the secret in an `Authorization` header (RFC 7617, RFC 6750).
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
