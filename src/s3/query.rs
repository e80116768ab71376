//! Queries of requests, decoded as s3s decodes them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The parameter names of a query.
pub(super) fn names(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    pairs(query).map(|(name, _)| name)
}

/// The names and values of a query.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let text = text.replace('+', " ");
        return percent_decode_str(&text).decode_utf8_lossy().into_owned().into();
    }
    percent_decode_str(text).decode_utf8_lossy()
}

/// Whether the parameter is part of a signature of version 4 or 2.
pub(super) fn is_signature(name: &str) -> bool {
    // version 2 also has Expires
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("X-Amz-"))
        || matches!(name, "Signature" | "AWSAccessKeyId")
}
