//! Counts the keys of a list, `{"next":"…","keys":["…","…"]}`, while it arrives, without holding it in memory.

use std::fmt;

/// The part of a list that has been read so far.
#[derive(Default)]
pub(crate) struct Listing {
    /// Number of open brackets and braces.
    depth: u32,
    /// Strings in the array.
    keys: u64,
    within: Within,
    /// Whether the last brace was closed, with nothing but white space after it.
    closed: bool,
    damaged: bool,
}

/// Where in the JSON the next byte is.
#[derive(Default, PartialEq, Eq)]
enum Within {
    #[default]
    Structure,
    String,
    /// The byte after a backslash.
    Escape,
}

impl Listing {
    /// Reads the next bytes.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match (&self.within, byte) {
                (Within::Escape, _) => self.within = Within::String,
                (Within::String, b'\\') => self.within = Within::Escape,
                (Within::String, b'"') => self.within = Within::Structure,
                (Within::String, _) => {}
                (Within::Structure, _) => self.read_structure(byte),
            }
        }
    }

    /// The number of keys, once the list is whole.
    pub(crate) fn whole(&self) -> Option<u64> {
        (self.closed && !self.damaged).then_some(self.keys)
    }

    fn read_structure(&mut self, byte: u8) {
        self.damaged |= self.closed && !byte.is_ascii_whitespace();
        match byte {
            b'"' => {
                self.within = Within::String;
                // depth 1 is the object, with "next" and "keys", depth 2 the array
                self.keys += u64::from(self.depth == 2);
                self.damaged |= self.depth == 0;
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => match self.depth.checked_sub(1) {
                Some(depth) => {
                    self.depth = depth;
                    self.closed = depth == 0;
                }
                None => self.damaged = true,
            },
            // ASCII that JSON may have between strings, `null` included
            b',' | b':' | b'a'..=b'z' => {}
            _ => self.damaged |= !byte.is_ascii_whitespace(),
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self { damaged: true, .. } => "something that isn't a list, after",
            Self { closed: false, .. } => "a list cut short after",
            _ => "a list of",
        };
        write!(f, "{kind} {} keys", self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Option<u64> {
        let counts = [1, 2, 3, 1000].map(|bytes| {
            let mut listing = Listing::default();
            text.as_bytes().chunks(bytes).for_each(|chunk| listing.read(chunk));
            listing.whole()
        });
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?} by how it is cut");
        counts[0]
    }

    #[test]
    fn only_keys_are_counted() {
        assert_eq!(keys(r#"{"next":"","keys":[]}"#), Some(0));
        assert_eq!(keys(r#"{"next":"","keys":null}"#), Some(0));
        assert_eq!(keys(r#"{"next":"/c","keys":["/a","/b"]}"#), Some(2));
        assert_eq!(keys(r#" { "keys" : [ "/\"]},[{", "/\\" ], "next" : "" } "#), Some(2));
    }

    #[test]
    fn a_list_that_is_not_whole_has_no_count() {
        for wrong in
            ["", "{", "\"\"", "}", r#"{"next":"","keys":["/a""#, r#"{"keys":["/a"]"#, "{}x", "<html>"]
        {
            assert_eq!(keys(wrong), None, "{wrong}");
        }
    }
}
