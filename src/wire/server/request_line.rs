//! The first line of each request, as it came.
//!
//! hyper drops the fragment of a target without a word: `GET /a#b` asks for `/a`. A client that forgot to write `%23`
//! would read, write or delete another key. So the bytes that hyper reads are looked at on their way, those of heads
//! alone: of a body, only the length is counted.
//!
//! Where the next head begins is known once hyper has read the one before it. What came together with the end of a
//! head is therefore kept until then: it may have further requests. A body in chunks is taken to have ended once its
//! request was carried out; a request that came together with its end is refused, and the client sends it again.

use std::io::BufRead as _;
use std::sync::{Mutex, PoisonError};

use hyper::Method;

/// So many bytes of a line are kept, to tell that it is the one that hyper has read.
const KEPT: usize = 8;

/// So many bytes are kept that came together with the end of a head: more than are read at once, unless a body is
/// among them.
const MOST_BEYOND: usize = 16 * 1024;

/// What the first line of a request is like, where that is a reason to refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawLine {
    /// It has a `#`.
    Fragment,
    /// It wasn't seen.
    Unseen,
}

/// The lines of a connection's requests, one after the other.
#[derive(Default)]
pub(super) struct RequestLines(Mutex<State>);

#[derive(Default)]
struct State {
    at: At,
    kept: [u8; KEPT],
    /// The length of the line so far, without the empty lines before it.
    length: usize,
    has_fragment: bool,
    /// What came together with the end of the head.
    beyond: Vec<u8>,
    /// Whether a body in chunks is read to its end if the request is carried out.
    stores: bool,
}

#[derive(Clone, Copy, Default)]
enum At {
    /// Before the line, or within it.
    #[default]
    Line,
    /// In the headers, and whether the present line is empty so far.
    Headers { is_empty: bool },
    /// After the headers; so many bytes were read beyond them.
    End { beyond: usize },
    /// In the body, or so many bytes before its end.
    Body { left: u64 },
    /// In a body whose length isn't known.
    Chunks,
    /// Somewhere.
    Lost,
}

impl RequestLines {
    /// Looks at the next bytes of the connection.
    pub(super) fn read(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(bytes);
    }

    /// hyper has read the head of a request, whose body has that length: tells what is wrong with its line.
    pub(super) fn begin(&self, method: &Method, body: Option<u64>) -> Option<RawLine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).begin(method, body)
    }

    /// The request is answered: tells whether it is the connection's last one.
    pub(super) fn is_last(&self, is_refused: bool) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.at {
            At::Chunks if state.stores && !is_refused => {
                *state = State::default();
                false
            }
            At::Chunks | At::Lost => true,
            _ => false,
        }
    }
}

impl State {
    fn read(&mut self, mut bytes: &[u8]) {
        if let At::Body { left } = &mut self.at {
            let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= taken as u64;
            bytes = bytes.get(taken..).unwrap_or_default();
            if *left == 0 {
                *self = Self::default();
            }
        }
        while !bytes.is_empty() {
            let (line, rest) = bytes.split_at(line_length(bytes));
            match &mut self.at {
                At::Line => self.read_line(line),
                At::Headers { is_empty } => {
                    let is_blank = *is_empty && is_blank(line);
                    match (line.ends_with(b"\n"), is_blank) {
                        (false, _) => *is_empty = is_blank,
                        (true, false) => *is_empty = true,
                        // The last chunk of a body whose request was carried out before that came: a request whose
                        // length was announced in another way.
                        (true, true) if self.kept.starts_with(b"0") => *self = Self::default(),
                        (true, true) => self.at = At::End { beyond: 0 },
                    }
                }
                At::End { beyond } => {
                    *beyond += bytes.len();
                    let kept = bytes.len().min(MOST_BEYOND.saturating_sub(self.beyond.len()));
                    self.beyond.extend(bytes.iter().take(kept));
                    return;
                }
                At::Body { .. } | At::Chunks | At::Lost => return,
            }
            bytes = rest;
        }
    }

    /// Reads a part of the first line. hyper passes over empty lines before it.
    fn read_line(&mut self, line: &[u8]) {
        if self.length == 0 && is_blank(line) {
            return;
        }
        for (kept, byte) in self.kept.iter_mut().skip(self.length).zip(line) {
            *kept = *byte;
        }
        self.length += line.len();
        self.has_fragment |= line.contains(&b'#');
        if line.ends_with(b"\n") {
            self.at = At::Headers { is_empty: true };
        }
    }

    fn begin(&mut self, method: &Method, body: Option<u64>) -> Option<RawLine> {
        let mut expected = method.as_str().bytes().chain([b' ']);
        let is_it = self.kept.iter().all(|kept| expected.next().is_none_or(|byte| byte == *kept));
        let (At::End { beyond }, true) = (self.at, is_it) else {
            self.at = At::Lost;
            return Some(RawLine::Unseen);
        };
        let found = self.has_fragment.then_some(RawLine::Fragment);
        self.stores = matches!(*method, Method::PUT | Method::POST);
        let kept = std::mem::take(&mut self.beyond);
        let Some(length) = body else {
            self.at = At::Chunks;
            return found;
        };
        match length.checked_sub(beyond as u64) {
            Some(0) => *self = Self::default(),
            Some(left) => self.at = At::Body { left },
            None if kept.len() < beyond => self.at = At::Lost,
            None => {
                *self = Self::default();
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.read(kept.get(length..).unwrap_or_default());
            }
        }
        found
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// The length of the first line with its end, or of all bytes if it has none.
fn line_length(mut bytes: &[u8]) -> usize {
    let all = bytes.len();
    bytes.skip_until(b'\n').unwrap_or(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `begin` says after these bytes came, at once and one by one.
    #[track_caller]
    fn assert_begins(
        lines: &RequestLines,
        bytes: &str,
        (method, body): (&Method, Option<u64>),
        is: Option<RawLine>,
    ) {
        lines.read(bytes.as_bytes());
        assert_eq!(lines.begin(method, body), is, "{bytes:?}");
        let drop_by_drop = RequestLines::default();
        bytes.bytes().for_each(|byte| drop_by_drop.read(&[byte]));
        assert_eq!(drop_by_drop.begin(method, body), is, "{bytes:?}");
    }

    const NONE: (&Method, Option<u64>) = (&Method::GET, Some(0));

    #[test]
    fn a_fragment_is_seen_in_the_first_line_alone() {
        let lines = RequestLines::default();
        assert_begins(&lines, "GET /a HTTP/1.1\r\nX: #\r\n\r\n", NONE, None);
        assert_begins(&lines, "GET /a#b HTTP/1.1\r\nX: y\r\n\r\n", NONE, Some(RawLine::Fragment));
        assert_begins(&lines, "\r\n\nGET http://a/b?c#d HTTP/1.1\n\n", NONE, Some(RawLine::Fragment));
        assert_begins(&lines, "GET /%23 HTTP/1.1\n\r\n", NONE, None);
        assert!(!lines.is_last(false));
    }

    #[test]
    fn a_body_is_passed_over() {
        let lines = RequestLines::default();
        lines.read(b"PUT /a HTTP/1.1\r\n\r\n#\n");
        assert_eq!(lines.begin(&Method::PUT, Some(6)), None);
        lines.read(b"\n\n\n");
        assert!(!lines.is_last(false));
        lines.read(b"#GET /a#b HTTP/1.1\r\n\r\n");
        assert_eq!(lines.begin(&Method::GET, Some(0)), Some(RawLine::Fragment));
        lines.read(b"PUT /a HTTP/1.1\r\n\r\n5\r\nvalue\r\n");
        assert_eq!(lines.begin(&Method::PUT, None), None);
        lines.read(b"0\r\n\r\n");
        assert!(!lines.is_last(false));
        assert_begins(&lines, "GET /a HTTP/1.1\r\n\r\n", NONE, None);
    }

    #[test]
    fn requests_that_come_at_once_are_told_apart() {
        let lines = RequestLines::default();
        lines.read(b"PUT /a HTTP/1.1\r\n\r\n#\n#\nGET /b HTTP/1.1\r\n\r\nGET /c#d HTTP/1.1\r\n\r\nGET ");
        assert_eq!(lines.begin(&Method::PUT, Some(4)), None);
        assert!(!lines.is_last(false));
        assert_eq!(lines.begin(&Method::GET, Some(0)), None);
        assert_eq!(lines.begin(&Method::GET, Some(0)), Some(RawLine::Fragment));
        lines.read(b"/e HTTP/1.1\r\n\r\n");
        assert_eq!(lines.begin(&Method::GET, Some(0)), None);
        assert!(!lines.is_last(false));
    }

    #[test]
    fn a_request_whose_line_was_not_seen_is_refused_and_the_last_one() {
        let lines = RequestLines::default();
        lines.read(b"PUT /a HTTP/1.1\r\n\r\n");
        lines.read(&[b'v'; MOST_BEYOND]);
        lines.read(b"GET /b#c HTTP/1.1\r\n\r\n");
        assert_eq!(lines.begin(&Method::PUT, Some(MOST_BEYOND as u64)), None);
        assert!(lines.is_last(false));
        assert_eq!(lines.begin(&Method::GET, Some(0)), Some(RawLine::Unseen));
        // nothing follows a body that ends with what was read, however long it is
        let whole = RequestLines::default();
        whole.read(b"PUT /a HTTP/1.1\r\n\r\n");
        whole.read(&vec![b'v'; MOST_BEYOND + 1]);
        assert_eq!(whole.begin(&Method::PUT, Some(MOST_BEYOND as u64 + 1)), None);
        assert!(!whole.is_last(false));
        let chunks = RequestLines::default();
        chunks.read(b"DELETE /a HTTP/1.1\r\n\r\n");
        assert_eq!(chunks.begin(&Method::DELETE, None), None);
        assert!(chunks.is_last(false), "its body may not have been read");
        let late = RequestLines::default();
        late.read(b"PUT /a HTTP/1.1\r\n\r\n1\r\n1\r\n");
        assert_eq!(late.begin(&Method::PUT, None), None);
        assert!(!late.is_last(false));
        late.read(b"0\r\n\r\n");
        late.read(b"GET /a#b HTTP/1.1\r\n\r\n");
        assert_eq!(late.begin(&Method::GET, Some(0)), Some(RawLine::Fragment));
        // two requests in a body of chunks
        let chunks = RequestLines::default();
        chunks.read(b"PUT /a HTTP/1.1\r\n\r\n0\r\n\r\nGET /b#c HT");
        assert_eq!(chunks.begin(&Method::PUT, None), None);
        assert!(!chunks.is_last(false));
        chunks.read(b"TP/1.1\r\n\r\n");
        assert_eq!(chunks.begin(&Method::GET, Some(0)), Some(RawLine::Unseen));
    }
}
