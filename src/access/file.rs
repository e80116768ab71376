//! Reads and validates the file of keys, in TOML. An error is one line that names the entry, and never shows a
//! secret.

use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::credentials::{Buckets, Credential, Credentials, Right, Secret, fingerprint};

/// Shorter secrets can be guessed.
const MIN_SECRET_BYTES: usize = 8;

/// The mode bit of a file that other users can read.
const READABLE: u32 = 0o004;

/// Reads a file of keys.
///
/// # Errors
///
/// One line that names the file and says what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Credentials, String> {
    let shown = path.display();
    let (text, mode) = contents(path)
        .map_err(|error| format!("{shown}: {error}: name a file of keys with --credentials"))?;
    let keys = parse(&text).map_err(|error| format!("{shown}: {error}"))?;
    if mode & READABLE != 0 {
        tracing::warn!("everybody on this machine can read the secrets in {shown}: chmod 600 {shown}");
    }
    Ok(keys)
}

/// The text and the mode of a file.
fn contents(path: &Path) -> io::Result<(String, u32)> {
    let (mut file, mut text) = (File::open(path)?, String::new());
    file.read_to_string(&mut text)?;
    Ok((text, file.metadata()?.permissions().mode()))
}

pub(super) fn parse(text: &str) -> Result<Credentials, String> {
    let line = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
    // the whole error would show the line, which may hold a secret
    let table = DeTable::parse(text).map_err(|error| {
        format!("line {} isn't TOML: {}", line(error.span().unwrap_or_default().start), error.message())
    })?;
    let fields = Fields::of(table.get_ref(), &["public-read", "key"])?;
    let public = fields.get("public-read").map(|_| fields.buckets("public-read")).transpose()?;
    let mut keys = Credentials { public: public.unwrap_or_default(), ..Credentials::default() };
    for entry in fields.entries()? {
        key(entry.get_ref())
            .and_then(|key| keys.add(key))
            .map_err(|error| format!("the [[key]] on line {}: {error}", line(entry.span().start)))?;
    }
    if keys.by_access.is_empty() && keys.public.0.is_empty() {
        // a truncated file is more likely than a store that nobody may use
        return Err("it names no key: write a [[key]]".to_owned());
    }
    Ok(keys)
}

impl Credentials {
    fn add(&mut self, key: Credential) -> Result<(), String> {
        let key = Arc::new(key);
        let Entry::Vacant(by_access) = self.by_access.entry(key.access.clone()) else {
            return Err("an earlier key has the same access: write each key once".to_owned());
        };
        let Entry::Vacant(by_secret) = self.by_secret.entry(fingerprint(key.secret.expose().as_bytes()))
        else {
            return Err("an earlier key has the same secret: give each key its own".to_owned());
        };
        by_access.insert(Arc::clone(&key));
        by_secret.insert(key);
        Ok(())
    }
}

fn key(entry: &DeValue<'_>) -> Result<Credential, String> {
    let entry = entry.as_table().ok_or_else(|| NO_TABLES.to_owned())?;
    let fields = Fields::of(entry, &["access", "secret", "buckets", "allow"])?;
    let (access, secret) = (fields.text("access")?, fields.text("secret")?);
    if access.is_empty() {
        return Err("access is empty: give the key a name".to_owned());
    }
    // access keys are written into headers, URLs and log lines
    if !access.bytes().all(|byte| byte.is_ascii_graphic() && !b":/,".contains(&byte)) {
        return Err("access contains an invalid character: use letters and digits".to_owned());
    }
    if secret.len() < MIN_SECRET_BYTES {
        return Err(format!("secret is too short: use {MIN_SECRET_BYTES} bytes or more"));
    }
    let (buckets, allow) = (fields.buckets("buckets")?, fields.texts("allow")?);
    if buckets.0.is_empty() {
        return Err("buckets is empty: write [\"*\"] for all".to_owned());
    }
    let allow = allow.iter().map(|name| right(name)).collect::<Result<Vec<_>, _>>()?;
    if allow.is_empty() {
        return Err("allow is empty: write read, write or admin".to_owned());
    }
    Ok(Credential { access: access.to_owned(), secret: Secret(secret.into()), buckets, allow })
}

fn right(name: &str) -> Result<Right, String> {
    let named = [Right::Read, Right::Write, Right::Admin].into_iter().find(|right| right.to_string() == name);
    named.ok_or_else(|| format!("allow names {name:?}: write read, write or admin"))
}

const NO_TABLES: &str = "key is not a list of tables: begin each with [[key]]";

/// The fields of a table.
struct Fields<'a>(&'a DeTable<'a>);

impl<'a> Fields<'a> {
    /// Refuses unknown names.
    fn of(table: &'a DeTable<'a>, names: &[&str]) -> Result<Self, String> {
        match table.keys().find(|name| !names.contains(&&**name.get_ref())) {
            Some(name) => Err(format!("{:?} is unknown: use {}", name.get_ref(), names.join(", "))),
            None => Ok(Self(table)),
        }
    }

    fn get(&self, name: &str) -> Option<&'a DeValue<'a>> {
        self.0.get(name).map(Spanned::get_ref)
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        let value = self.get(name).ok_or_else(|| format!("{name} is missing: write {name} = \"…\""))?;
        value.as_str().ok_or_else(|| format!("{name} is not a string: write {name} = \"…\""))
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let wrong = |how| format!("{name} is {how}: write {name} = [\"…\"]");
        let values = self.get(name).ok_or_else(|| wrong("missing"))?.as_array();
        let text = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().map(str::to_owned);
        let texts = values.and_then(|values| values.iter().map(text).collect());
        texts.ok_or_else(|| wrong("not a list of strings"))
    }

    fn buckets(&self, name: &str) -> Result<Buckets, String> {
        let buckets = self.texts(name)?;
        let invalid = |bucket: &&String| {
            let start = bucket.strip_suffix('*').unwrap_or(bucket);
            bucket.is_empty() || start.contains(['*', '/'])
        };
        match buckets.iter().find(invalid) {
            Some(bucket) => Err(format!("{name} names {bucket:?}: write a bucket's name, or a prefix and *")),
            None => Ok(Buckets(buckets)),
        }
    }

    /// The tables under `[[key]]`.
    fn entries(&self) -> Result<&'a [Spanned<DeValue<'a>>], String> {
        match self.get("key") {
            None => Ok(&[]),
            Some(DeValue::Array(entries)) => Ok(entries),
            Some(_) => Err(NO_TABLES.to_owned()),
        }
    }
}
