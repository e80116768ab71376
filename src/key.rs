//! Keys, and the names of their files on the volumes.
//!
//! The layout is minikeyvalue's (geohot/minikeyvalue, `key2path`), so that either system can rebuild
//! its index from the other's volumes: the file of a key is `/<m0>/<m1>/<name>`, where m0 and
//! m1 are the first two bytes of MD5(key) in lower-case hex, and name is
//!
//! - the **plain** name: standard base64 (RFC 4648 section 4) of the key, which may contain `/` and
//!   then nests a directory; or
//! - a **generation** name: base64url (RFC 4648 section 5) of the key, `,`, 16 hex digits. The comma
//!   is in neither alphabet. Each generation name is the target of one write attempt only.
//!
//! File systems can't hold a path component longer than 255 bytes, so longer ones are split into pieces;
//! each piece but the last ends with `~` (which is in neither alphabet) and is followed by `/`.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The longest key that can be written, in bytes, including its leading `/`.
pub const MAX_KEY_BYTES: usize = 2048;

/// The prefix of the keys of uploads' parts.
pub const PARTS: &[u8] = b"part/";

/// The longest component of a path that common file systems can hold, in bytes.
const MAX_COMPONENT_BYTES: usize = 255;

/// The highest number of an attempt. A file with a higher one isn't davkv's, and must not exhaust the numbers.
pub const MAX_GENERATION: u64 = u64::MAX >> 1;

/// Length of `/<m0>/<m1>/`, in bytes.
const DIRECTORIES: usize = 7;
/// Length of a comma and a generation in a name, in bytes.
const GENERATION: usize = 17;

/// Ends each piece but the last of a component that was split.
const CUT: char = '~';

/// Padding is written; when reading, it may be missing.
const CODEC: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CODEC);
const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CODEC);

/// A key: the percent-decoded path of a request, including its leading `/`. It may hold any bytes.
///
/// Cheap to clone. Its `Display` is percent-encoded ASCII, safe in a header or a log line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

/// The form of a replica's file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// base64 of the key, as in minikeyvalue.
    Plain,
    /// base64url of the key, and the number of the attempt that wrote the file.
    Generation(u64),
}

/// Why a key can't be given to a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Shorter than 2 or longer than [`MAX_KEY_BYTES`] bytes.
    Length(usize),
    /// The first byte isn't `/`.
    NoSlash,
    /// Not UTF-8.
    NotUtf8,
    /// Contains a control character (Unicode category Cc), at this byte.
    Control(usize),
}

impl Key {
    /// Takes any bytes; [`Key::check`] tells whether a new value may have this key.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }

    /// The bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Checks that a new value may be stored under this key.
    ///
    /// # Errors
    ///
    /// The key is invalid. An index written by minikeyvalue may hold such keys; they can be read and deleted.
    pub fn check(&self) -> Result<(), KeyError> {
        if self.0.first() != Some(&b'/') {
            return Err(KeyError::NoSlash);
        }
        if !(2..=MAX_KEY_BYTES).contains(&self.0.len()) {
            return Err(KeyError::Length(self.0.len()));
        }
        let text = std::str::from_utf8(&self.0).map_err(|_not_utf8| KeyError::NotUtf8)?;
        match text.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(KeyError::Control(at)),
            None => Ok(()),
        }
    }

    /// The key of an upload's part, which is stored as a value until the upload is completed. The key doesn't
    /// begin with `/`, so no request can name it.
    #[must_use]
    pub fn part(upload: u64, number: u16) -> Self {
        Self::new(format!("part/{upload:016x}/{number:05}").as_bytes())
    }

    /// The upload and the part's number, if this is a part's key; the inverse of [`Key::part`].
    #[must_use]
    pub fn as_part(&self) -> Option<(u64, u16)> {
        let (upload, number) = std::str::from_utf8(self.0.strip_prefix(PARTS)?).ok()?.split_once('/')?;
        let (upload, number) = (u64::from_str_radix(upload, 16).ok()?, number.parse().ok()?);
        (Self::part(upload, number) == *self).then_some((upload, number))
    }

    /// The path of the key's file on a volume: `/<m0>/<m1>/<name>`.
    ///
    /// All characters are ASCII and need no percent-encoding, so this is also the path of the file's URL.
    #[must_use]
    pub fn path(&self, name: Name) -> String {
        let [m0, m1] = self.directories();
        // each request needs several paths, so each is built in one allocation
        let mut path = String::with_capacity(DIRECTORIES + self.0.len().div_ceil(3) * 4 + GENERATION);
        path.extend(['/', hex(m0 >> 4), hex(m0), '/', hex(m1 >> 4), hex(m1), '/']);
        match name {
            Name::Plain => PLAIN.encode_string(&self.0, &mut path),
            Name::Generation(generation) => {
                URL.encode_string(&self.0, &mut path);
                path.push(',');
                path.extend(generation.to_be_bytes().iter().flat_map(|byte| [hex(byte >> 4), hex(*byte)]));
            }
        }
        if path.len() <= MAX_COMPONENT_BYTES { path } else { cut(&path) }
    }

    /// The key and name of a file's path, the inverse of [`Key::path`]; `None` if the path isn't a key's.
    #[must_use]
    pub fn from_path(path: &str) -> Option<(Self, Name)> {
        let (_directories, name) = path.strip_prefix('/').and_then(|rest| rest.split_at_checked(6))?;
        // few names are split
        let name = if name.contains(CUT) { name.replace(&format!("{CUT}/"), "") } else { name.to_owned() };
        let (key, name) = match name.split_once(',') {
            None => (PLAIN.decode(&name).ok()?, Name::Plain),
            Some((key, digits)) => {
                let generation = u64::from_str_radix(digits, 16).ok()?;
                if generation > MAX_GENERATION {
                    return None;
                }
                (URL.decode(key).ok()?, Name::Generation(generation))
            }
        };
        let key = Self::new(&key);
        // only the canonical path is accepted, which also checks the MD5 directories
        (key.path(name) == path).then_some((key, name))
    }

    /// Whether the plain name can be a file: a name that ends in `/` would be a directory, and its
    /// DELETE recursive.
    #[must_use]
    pub fn has_plain_name(&self) -> bool {
        // base64 ends in `/` if the last group has three bytes and its last six bits are ones
        !(self.0.len().is_multiple_of(3) && self.0.last().is_some_and(|byte| byte & 0x3f == 0x3f))
    }

    /// The first two bytes of MD5(key), which name the two directories.
    fn directories(&self) -> [u8; 2] {
        let [m0, m1, ..] = md5_lanes::digest(&self.0);
        [m0, m1]
    }
}

/// The hex digit of the lower four bits.
fn hex(byte: u8) -> char {
    char::from_digit(u32::from(byte & 0xf), 16).unwrap_or_else(|| unreachable!("half a byte"))
}

/// The path, with components that are too long for a file system split.
fn cut(path: &str) -> String {
    let mut pieces = String::with_capacity(path.len() + path.len() / MAX_COMPONENT_BYTES * 2);
    for (index, component) in path.split('/').enumerate() {
        if index > 0 {
            pieces.push('/');
        }
        push_cut(&mut pieces, component);
    }
    pieces
}

/// Appends a component, split into pieces if it is too long for a file system.
fn push_cut(path: &mut String, component: &str) {
    let mut rest = component;
    while rest.len() > MAX_COMPONENT_BYTES {
        // base64 is ASCII, so any index is a character boundary
        let (piece, tail) = rest.split_at(MAX_COMPONENT_BYTES - 1);
        path.push_str(piece);
        path.push(CUT);
        path.push('/');
        rest = tail;
    }
    path.push_str(rest);
}

/// Characters that a percent-encoded key keeps: RFC 3986's unreserved characters, and `/`.
const KEY_CHARACTERS: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        percent_encoding::percent_encode(&self.0, KEY_CHARACTERS).fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(bytes) => {
                write!(f, "a key has 2 to {MAX_KEY_BYTES} bytes with its leading slash, this one {bytes}")
            }
            Self::NoSlash => f.write_str("a key begins with a slash"),
            Self::NotUtf8 => f.write_str("a key is UTF-8 (percent-encoded in the URL), this one isn't"),
            Self::Control(at) => {
                write!(f, "a key has no control characters, this one has one at byte {at}")
            }
        }
    }
}

impl std::error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(key: &[u8]) -> String {
        Key::new(key).path(Name::Plain)
    }

    /// Computed with `printf hello | md5sum` and `printf hello | base64`.
    #[test]
    fn paths_are_minikeyvalues() {
        assert_eq!(path(b"hello"), "/5d/41/aGVsbG8=");
        assert_eq!(path(b"helloworld"), "/fc/5e/aGVsbG93b3JsZA==");
        assert_eq!(path("/oë".as_bytes()), "/67/38/L2/Dqw==");
    }

    #[test]
    fn a_generation_name_is_base64url_and_hex() {
        let key = Key::new("/oë".as_bytes());
        assert_eq!(key.path(Name::Generation(0x1f)), "/67/38/L2_Dqw==,000000000000001f");
    }

    #[test]
    fn a_part_has_a_key_that_no_request_can_name() {
        let key = Key::part(0x1f, 10_000);
        assert_eq!(key.as_bytes(), b"part/000000000000001f/10000");
        assert_eq!(key.as_part(), Some((0x1f, 10_000)));
        assert!(key.check().is_err());
        for other in ["/part/000000000000001f/00001", "part/1f/00001", "part/000000000000001f/1", "part/"] {
            assert_eq!(Key::new(other.as_bytes()).as_part(), None, "{other}");
        }
    }

    #[test]
    fn only_long_names_are_split() {
        // 189 bytes are 252 characters, 192 bytes 256
        let short = path(&[b"/".as_slice(), &[b'k'; 188]].concat());
        assert_eq!(short.split('/').map(str::len).collect::<Vec<_>>(), [0, 2, 2, 252]);
        let long = path(&[b"/".as_slice(), &[b'k'; 191]].concat());
        assert_eq!(long.split('/').map(str::len).collect::<Vec<_>>(), [0, 2, 2, 255, 2]);
        assert!(long.contains("~/"));
    }

    #[test]
    fn a_plain_name_that_would_be_a_directory_is_refused() {
        assert!(!Key::new(b"/a?").has_plain_name());
        assert!(Key::new(b"/a?b").has_plain_name());
    }

    #[test]
    fn paths_of_foreign_files_have_no_key() {
        for path in [
            "",
            "/",
            "/5d/41",
            "/5d/41/",
            "/5d/42/aGVsbG8=",                  // other directories
            "/5d/41/aGVsbG8",                   // no padding
            "/5D/41/aGVsbG8=",                  // upper case
            "/5d/41/aGVsbG8=.0000000001",       // nginx's temporary file
            "/5d/41/aGVsbG8=,1",                // not 16 digits
            "/5d/41/aGVs~/bG8=",                // split, but short
            "/5d/41/aGVsbG8=,ffffffffffffffff", // above the highest generation
            "/5d/41/ä",
        ] {
            assert_eq!(Key::from_path(path), None, "{path}");
        }
    }

    #[test]
    fn the_check_names_what_is_wrong_with_a_key() {
        let check = |key: &[u8]| Key::new(key).check();
        assert_eq!(check(b"/a"), Ok(()));
        assert_eq!(check("/ä".as_bytes()), Ok(()));
        assert_eq!(check(b"/"), Err(KeyError::Length(1)));
        assert_eq!(check(&[b'/'; MAX_KEY_BYTES]), Ok(()));
        assert_eq!(check(&[b'/'; MAX_KEY_BYTES + 1]), Err(KeyError::Length(MAX_KEY_BYTES + 1)));
        assert_eq!(check(b"a"), Err(KeyError::NoSlash));
        assert_eq!(check(b"/\xff"), Err(KeyError::NotUtf8));
        assert_eq!(check(b"/a\r"), Err(KeyError::Control(2)));
        assert_eq!(check(b"/\0a"), Err(KeyError::Control(1)));
        assert_eq!(check("/\u{85}".as_bytes()), Err(KeyError::Control(1)));
    }

    #[test]
    fn display_is_percent_encoded() {
        assert_eq!(Key::new(b"/a b\r\n%\xff~").to_string(), "/a%20b%0D%0A%25%FF~");
    }

    proptest! {
        #[test]
        fn a_plain_name_never_ends_in_a_slash(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xff)], 0..9)) {
            prop_assert_eq!(Key::new(&bytes).has_plain_name(), !PLAIN.encode(&bytes).ends_with('/'));
        }

        #[test]
        fn path_and_back(bytes in proptest::collection::vec(any::<u8>(), 1..2100), generation: Option<u64>) {
            let key = Key::new(&bytes);
            let name = generation.map_or(Name::Plain, |number| Name::Generation(number & MAX_GENERATION));
            let path = key.path(name);
            prop_assert!(path.split('/').all(|component| component.len() <= MAX_COMPONENT_BYTES));
            prop_assert!(path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/+=-_,~".contains(&b)));
            prop_assert_eq!(Key::from_path(&path), Some((key, name)));
        }

        #[test]
        fn no_valid_keys_file_is_another_ones_directory(a in "/[ -~ä-ÿ?]{1,12}", b in "/[ -~ä-ÿ?]{1,12}") {
            // in base64 of valid UTF-8, no group of four characters begins with `/`
            let (a, b) = (PLAIN.encode(a), PLAIN.encode(b));
            let nested = format!("{a}/");
            prop_assert!(!b.starts_with(&nested));
        }
    }
}
