//! Percent-encoding in the targets of requests.

use std::fmt;

use percent_encoding::percent_decode_str;

/// A `%` in a target that begins no escape; says so in a line for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetError;

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a % in the URL is followed by two hex digits (write %25 for %)")
    }
}

impl std::error::Error for TargetError {}

/// The bytes that a percent-encoded part of a target stands for.
///
/// # Errors
///
/// Strictly: a `%` that begins no escape is an error, and not itself.
pub fn percent_decode(text: &str) -> Result<Vec<u8>, TargetError> {
    let escapes = text.split('%').skip(1);
    for escape in escapes {
        let digits = escape.as_bytes().get(..2);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(TargetError);
        }
    }
    Ok(percent_decode_str(text).collect())
}
