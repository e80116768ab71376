//! Clients' text in the log.

/// The most characters of a target in the log.
const SHOWN: usize = 512;

/// A request's target for the log: without control characters, and cut where it is too long.
pub(crate) fn escaped(target: &str) -> String {
    let mut shown: String = target.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if target.len() > SHOWN {
        shown.push('…');
    }
    shown
}
