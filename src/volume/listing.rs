//! nginx's directory listings (`autoindex_format json`), read as they arrive.
//!
//! A listing is an array of flat objects, 40 MB for 300,000 files, so it is split into its objects
//! as it streams; one object is in memory at a time. nginx writes bytes that aren't UTF-8 unchanged: a name
//! with such bytes is read with replacement characters, which no key's file has, and doesn't fail the
//! listing.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::Deserialize;

/// The longest object that is accepted. nginx's have at most a few hundred bytes, because a name has at most 255.
const MAX_OBJECT_BYTES: usize = 64 * 1024;

/// Initial capacity for an object; enough for most names.
const USUAL_OBJECT_BYTES: usize = 192;

/// The longest listing that is accepted: a million files in one of the 65,536 directories of a volume. The
/// caller holds its entries in memory.
const MAX_BYTES: usize = 128 * 1024 * 1024;

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name, without a path.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// The type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Seconds since 1970; `None` if the volume's date is invalid.
        modified: Option<u64>,
    },
    /// Neither: nginx's `other`.
    Other,
}

#[derive(Deserialize)]
struct Row<'a> {
    name: String,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    mtime: Option<Cow<'a, str>>,
    size: Option<u64>,
}

/// Splits a listing into its entries.
#[derive(Debug, Default)]
pub struct Parser {
    at: Position,
    /// Bytes read so far.
    taken: usize,
    /// The bytes of the current object.
    object: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Start,
    Between,
    Object,
    String,
    Escape,
    End,
}

/// Why a listing can't be used.
#[derive(Debug, PartialEq, Eq)]
pub struct ListingError(&'static str);

impl std::fmt::Display for ListingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ListingError {}

impl Parser {
    /// Reads the next bytes, and calls `found` with each entry that they complete.
    ///
    /// # Errors
    ///
    /// The bytes are not a listing.
    pub fn read(&mut self, bytes: &[u8], mut found: impl FnMut(Listed)) -> Result<(), ListingError> {
        use Position as P;
        self.taken += bytes.len();
        if self.taken > MAX_BYTES {
            return Err(ListingError("the listing is too long"));
        }
        for &byte in bytes {
            let inside = matches!(self.at, P::Object | P::String | P::Escape);
            self.at = match (self.at, byte) {
                (at @ (P::Start | P::Between | P::End), b' ' | b'\r' | b'\n' | b'\t') => at,
                (P::Start, b'[') | (P::Between, b',') | (P::Object, b'}') => P::Between,
                (P::Between, b'{') | (P::String, b'"') => P::Object,
                (P::Between, b']') => P::End,
                (P::String, b'\\') => P::Escape,
                (P::Object, b'"') | (P::String | P::Escape, _) => P::String,
                (P::Object, b'{' | b'[') => return Err(ListingError("the listing is nested")),
                (P::Object, _) => P::Object,
                _ => return Err(ListingError("the answer is not a JSON listing (autoindex_format json)")),
            };
            if inside || self.at == P::Object {
                if self.object.capacity() == 0 {
                    self.object.reserve(USUAL_OBJECT_BYTES);
                }
                if self.object.len() == MAX_OBJECT_BYTES {
                    return Err(ListingError("the listing has an entry that is too long"));
                }
                self.object.push(byte);
            }
            if inside && self.at == P::Between {
                found(parse(&self.object)?);
                self.object.clear();
            }
        }
        Ok(())
    }

    /// Checks that the listing is complete.
    ///
    /// # Errors
    ///
    /// The listing is cut short.
    pub fn end(&self) -> Result<(), ListingError> {
        if self.at == Position::End { Ok(()) } else { Err(ListingError("the listing is cut short")) }
    }
}

fn parse(object: &[u8]) -> Result<Listed, ListingError> {
    let text = String::from_utf8_lossy(object);
    let row: Row<'_> =
        serde_json::from_str(&text).map_err(|_error| ListingError("the listing has an invalid entry"))?;
    let kind = match (row.kind.as_ref(), row.size) {
        ("directory", _) => Kind::Directory,
        ("file", Some(size)) => Kind::File { size, modified: row.mtime.as_deref().and_then(seconds) },
        ("file", None) => return Err(ListingError("the listing has a file without a size")),
        _ => Kind::Other,
    };
    Ok(Listed { name: row.name, kind })
}

fn seconds(date: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(date).ok()?;
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], step: usize) -> Result<Vec<Listed>, ListingError> {
        let mut parser = Parser::default();
        let mut found = Vec::new();
        for bytes in text.chunks(step) {
            parser.read(bytes, |entry| found.push(entry))?;
        }
        parser.end().map(|()| found)
    }

    #[test]
    fn nginxs_listing_is_read_the_same_in_pieces_of_any_size() {
        let text = b"[\r\n{ \"name\":\"sv00\", \"type\":\"directory\", \"mtime\":\"Sat, 21 Nov 2026 03:05:00 GMT\" },\r\n\
            { \"name\":\"a\\\"}b\", \"type\":\"file\", \"mtime\":\"Thu, 01 Jan 1970 00:00:09 GMT\", \"size\":5 },\n\
            { \"name\":\"\xff\", \"type\":\"other\", \"mtime\":\"\" }\r\n]\n";
        let expected = [
            Listed { name: "sv00".into(), kind: Kind::Directory },
            Listed { name: "a\"}b".into(), kind: Kind::File { size: 5, modified: Some(9) } },
            Listed { name: "\u{fffd}".into(), kind: Kind::Other },
        ];
        for step in 1..text.len() {
            assert_eq!(read(text, step).as_deref(), Ok(expected.as_slice()));
        }
        assert_eq!(read(b"[\r\n]\n", 1), Ok(vec![]));
    }

    #[test]
    fn a_listing_that_is_too_long_is_refused() {
        let mut parser = Parser { taken: MAX_BYTES - 1, ..Parser::default() };
        assert_eq!(parser.read(b"[", drop), Ok(()));
        assert_eq!(parser.read(b" ", drop), Err(ListingError("the listing is too long")));
    }

    #[test]
    fn invalid_and_incomplete_listings_are_refused() {
        let endless = [b"[{\"name\":\"".as_slice(), &b"a".repeat(MAX_OBJECT_BYTES)].concat();
        for text in [
            b"".as_slice(),
            b"[",
            b"[{\"name\":\"a\",\"type\":\"file\",\"size\":1}",
            b"<html>",
            b"[]]",
            b"[{\"name\":\"a\",\"type\":\"file\"}]",
            b"[{\"name\":1,\"type\":\"file\",\"size\":1}]",
            b"[{\"name\":\"a\",\"type\":\"file\",\"size\":-1}]",
            b"[{\"name\":[],\"type\":\"file\",\"size\":1}]",
            b"[1]",
            &endless,
        ] {
            assert!(read(text, 7).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
