//! Conditional requests (RFC 9110 section 13, as S3 applies it).

use hyper::HeaderMap;
use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Error, S3Result, s3_error};

use super::metadata::modified_second;
use crate::record::Record;
use crate::store::Precondition;

/// The conditions of a read, or of a copy for its source.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) matches: Option<ETagCondition>,
    pub(super) matches_none: Option<ETagCondition>,
    pub(super) modified_since: Option<Timestamp>,
    pub(super) unmodified_since: Option<Timestamp>,
}

/// Why a condition isn't met.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unexpected {
    /// The object is the one that the client has.
    Same,
    /// The object is another one.
    Other,
}

impl Expected {
    /// Checks the conditions. Entity tags take precedence over times (RFC 9110 section 13.2.2).
    pub(super) fn check(&self, record: &Record) -> Result<(), Unexpected> {
        // a condition's times are in seconds
        let modified = modified_second(record);
        if let Some(condition) = &self.matches {
            if !is_met(condition, record) {
                return Err(Unexpected::Other);
            }
        } else if self.unmodified_since.as_ref().is_some_and(|since| modified > *since) {
            return Err(Unexpected::Other);
        }
        if let Some(condition) = &self.matches_none {
            if is_met(condition, record) {
                return Err(Unexpected::Same);
            }
        } else if self.modified_since.as_ref().is_some_and(|since| modified <= *since) {
            return Err(Unexpected::Same);
        }
        Ok(())
    }
}

/// The names of conditional headers, as S3 spells them.
const NAMES: [&str; 7] = [
    "If-Match",
    "If-None-Match",
    "If-Unmodified-Since",
    "x-amz-copy-source-If-Match",
    "x-amz-copy-source-If-None-Match",
    "x-amz-copy-source-If-Unmodified-Since",
    "x-amz-copy-source-If-Modified-Since",
];

/// The name of the request's condition that can fail it, if any.
pub(super) fn named(headers: &HeaderMap) -> Option<&'static str> {
    let mut stated = NAMES.into_iter().filter(|name| headers.contains_key(*name));
    stated.next().filter(|_| stated.next().is_none())
}

fn is_met(condition: &ETagCondition, record: &Record) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(tag) => tag.value() == record.tag(),
    }
}

/// The record's entity tag.
pub(super) fn tag(record: &Record) -> ETag {
    ETag::Strong(record.tag())
}

/// The precondition of a write.
pub(super) fn when(
    matches: Option<ETagCondition>,
    matches_none: Option<ETagCondition>,
) -> S3Result<Precondition> {
    match (matches, matches_none) {
        (None, None) => Ok(Precondition::Always),
        (None, Some(ETagCondition::Any)) => Ok(Precondition::Absent),
        (Some(ETagCondition::ETag(tag)), None) => Ok(Precondition::Tagged(tag.into_value())),
        (Some(ETagCondition::Any), None) => Err(only("If-Match with an ETag")),
        (None, Some(ETagCondition::ETag(_))) => Err(only("If-None-Match with *")),
        (Some(_), Some(_)) => Err(only("one of If-Match and If-None-Match")),
    }
}

fn only(what: &str) -> S3Error {
    s3_error!(NotImplemented, "a write can be conditional by {what} only")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::clock;
    use crate::record::State;
    use crate::s3::metadata::timestamp;

    /// Written within the 60th second.
    fn record() -> Record {
        let (md5, size, modified) = (Some([0; 16]), Some(1), Some(clock::Timestamp::from_millis(60_123)));
        Record { state: State::Live, replicas: Vec::new(), md5, size, modified, headers: Vec::new() }
    }

    fn tagged(tag: &str) -> ETagCondition {
        ETagCondition::ETag(ETag::Strong(tag.to_owned()))
    }

    #[test]
    fn tags_take_precedence_over_times() {
        let (own, other) = (Some(tagged(&"0".repeat(32))), Some(tagged("1")));
        let second = |seconds| Some(timestamp(clock::Timestamp::from_seconds(seconds)));
        let (before, same, after) = (second(59), second(60), second(61));
        let expected =
            |matches: &Option<_>, matches_none: &Option<_>, modified: &Option<_>, un: &Option<_>| {
                let (matches, matches_none) = (matches.clone(), matches_none.clone());
                let (modified_since, unmodified_since) = (modified.clone(), un.clone());
                Expected { matches, matches_none, modified_since, unmodified_since }.check(&record())
            };
        let none = &None;
        assert_eq!(expected(none, &None, &None, &None), Ok(()));
        assert_eq!(expected(&own, &None, &None, &before), Ok(()));
        assert_eq!(expected(&other, &None, &None, &after), Err(Unexpected::Other));
        assert_eq!(expected(none, &None, &None, &before), Err(Unexpected::Other));
        assert_eq!(expected(none, &own, &before, &None), Err(Unexpected::Same));
        assert_eq!(expected(none, &other, &after, &None), Ok(()));
        assert_eq!(expected(none, &None, &after, &None), Err(Unexpected::Same));
        // clients know the time in seconds only
        assert_eq!(expected(none, &None, &same, &None), Err(Unexpected::Same));
        assert_eq!(expected(none, &None, &None, &same), Ok(()));
        assert_eq!(expected(none, &Some(ETagCondition::Any), &None, &None), Err(Unexpected::Same));
    }

    #[test]
    fn a_write_accepts_if_match_or_if_none_match() {
        assert_eq!(when(None, Some(ETagCondition::Any)).unwrap(), Precondition::Absent);
        assert_eq!(when(Some(tagged("a")), None).unwrap(), Precondition::Tagged("a".into()));
        assert_eq!(when(None, None).unwrap(), Precondition::Always);
        let (a, b) = (Some(tagged("a")), Some(tagged("b")));
        for (matches, matches_none) in [(Some(ETagCondition::Any), None), (None, a.clone()), (a, b)] {
            assert!(when(matches, matches_none).is_err());
        }
    }
}
