//! Requests and answers of HTTP/1.1, as bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;

use super::disks::{Files, is_marker};
use super::world::File;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Get,
    Delete,
    Put,
}

/// The head of a request.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    /// Of the body; none if it comes in chunks.
    pub(super) length: Option<usize>,
    /// Seconds since 1970.
    pub(super) date: Option<u64>,
    pub(super) range: Option<Range<usize>>,
}

impl Asked {
    /// Whether it asks for a marker, or for what is in a directory.
    pub(super) fn is_look(&self) -> bool {
        is_marker(&self.path) || self.path.ends_with('/')
    }
}

/// The request at the beginning of these bytes, and the length of its head. Whatever doesn't belong there
/// is refused.
pub(super) fn parse(bytes: &[u8]) -> Option<(Asked, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 8];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).ok()? else { return None };
    let method = match request.method? {
        "HEAD" => Method::Head,
        "GET" => Method::Get,
        "DELETE" => Method::Delete,
        "PUT" => Method::Put,
        _ => return None,
    };
    let path = request.path?.to_owned();
    let mut asked = Asked { method, path, length: None, date: None, range: None };
    let mut chunked = false;
    for header in request.headers.iter() {
        let value = std::str::from_utf8(header.value).ok()?;
        match header.name {
            "host" => {}
            "content-length" => asked.length = Some(value.parse().ok()?),
            "transfer-encoding" if value == "chunked" => chunked = true,
            "date" => {
                let date = httpdate::parse_http_date(value).ok()?;
                asked.date = Some(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs());
            }
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                asked.range = Some(first.parse().ok()?..last.parse::<usize>().ok()? + 1);
            }
            _ => return None,
        }
    }
    let framed = asked.length.is_some() != chunked;
    (framed == (method == Method::Put)).then_some((asked, length))
}

/// An answer with a body of text. (HEAD has none, nor has 204.)
pub(super) fn answer(method: Method, status: StatusCode, text: &str) -> Vec<u8> {
    let bare = status == StatusCode::NO_CONTENT;
    let length = if bare { String::new() } else { format!("Content-Length: {}\r\n", text.len()) };
    let text = if bare || method == Method::Head { "" } else { text };
    format!("HTTP/1.1 {status}\r\nServer: nginx\r\n{length}Connection: keep-alive\r\n\r\n{text}").into()
}

/// The head of the answer that has a file, or a part of it, and which bytes those are.
pub(super) fn found(file: &File, range: Option<Range<usize>>) -> (Vec<u8>, Range<usize>) {
    let size = file.bytes.len();
    let modified = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(file.modified));
    let head = |status: &str, length: usize, range: String| {
        let lines = format!("Content-Length: {length}\r\nLast-Modified: {modified}\r\n{range}");
        format!("HTTP/1.1 {status}\r\nServer: nginx\r\n{lines}Connection: keep-alive\r\n\r\n").into()
    };
    match range.map(|range| range.start..range.end.min(size)) {
        Some(part) if part.is_empty() && size > 0 => {
            (answer(Method::Get, StatusCode::RANGE_NOT_SATISFIABLE, ""), 0..0)
        }
        Some(part) if size > 0 => {
            let range = format!("Content-Range: bytes {}-{}/{size}\r\n", part.start, part.end - 1);
            (head("206 Partial Content", part.len(), range), part)
        }
        _ => (head("200 OK", size, String::new()), 0..size),
    }
}

/// The answer that has the whole file.
pub(super) fn whole(file: &File) -> Vec<u8> {
    let (head, part) = found(file, None);
    [head.as_slice(), &file.bytes[part]].concat()
}

/// The answer that lists a directory, whose path ends in `/`, of a volume that shows these files.
pub(super) fn listing(files: &Files, path: &str) -> Vec<u8> {
    let mut entries = BTreeMap::new();
    for (file, content) in files {
        let Some(rest) = file.strip_prefix(path) else { continue };
        let (name, size) = match rest.split_once('/') {
            Some((directory, _)) => (directory, None),
            None => (rest, Some(content.bytes.len())),
        };
        entries.insert(name, size);
    }
    if entries.is_empty() && path != "/" {
        return answer(Method::Get, StatusCode::NOT_FOUND, "");
    }
    let entry = |(name, size): (&str, Option<usize>)| match size {
        None => format!(r#"{{ "name":"{name}", "type":"directory" }}"#),
        Some(size) => format!(r#"{{ "name":"{name}", "type":"file", "size":{size} }}"#),
    };
    let entries: Vec<String> = entries.into_iter().map(entry).collect();
    answer(Method::Get, StatusCode::OK, &format!("[\n{}\n]", entries.join(",\n")))
}

/// How far a body has come that is sent in chunks.
#[derive(Default)]
pub(super) struct Chunks {
    /// The line that was begun: a chunk's size, or the empty one after a chunk.
    line: Vec<u8>,
    /// Bytes of the chunk that are still to come.
    left: usize,
    /// The last chunk was announced.
    last: bool,
    whole: bool,
}

impl Chunks {
    /// How many of the bytes are taken next, and which of them are the value's.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, Range<usize>) {
        if self.left > 0 {
            let taken = bytes.len().min(self.left);
            self.left -= taken;
            return (taken, 0..taken);
        }
        self.line.push(bytes[0]);
        if let Some(line) = self.line.strip_suffix(b"\r\n") {
            if line.is_empty() {
                self.whole = self.last;
            } else {
                let digits = std::str::from_utf8(line).unwrap();
                self.left = usize::from_str_radix(digits, 16).expect("the size of a chunk");
                self.last = self.left == 0;
            }
            self.line.clear();
        }
        (1, 0..0)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }
}
