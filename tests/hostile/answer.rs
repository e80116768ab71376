//! Parses and checks the master's answers strictly, because a client might.

/// The headers of the native API, each sent at most once.
const HEADERS: [&str; 12] = [
    "allow",
    "connection",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "etag",
    "key-balance",
    "key-volumes",
    "location",
    "retry-after",
    "transfer-encoding",
];

/// Additional headers of the S3 API, which also repeats the headers stored with an object.
const S3_HEADERS: [&str; 12] = [
    "accept-ranges",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "expires",
    "last-modified",
];

/// Part of the head of every S3 answer.
const S3_MARK: &[u8] = b"\r\nx-amz-request-id: ";

/// One answer of the master.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The server announces that it will close the connection after this answer.
    pub(crate) last: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    #[cfg(feature = "s3")]
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the S3 API answered; only it numbers its answers.
    pub(crate) fn is_s3(&self) -> bool {
        self.header("x-amz-request-id").is_some()
    }

    /// Checks that it has only headers of its API.
    fn check_headers(&self) -> Result<(), String> {
        let is_s3s = |name: &str| name.starts_with("x-amz-") || S3_HEADERS.contains(&name);
        let is_known = |name: &str| HEADERS.contains(&name) || (self.is_s3() && is_s3s(name));
        match self.headers.iter().find(|(name, _)| !is_known(name)) {
            Some(other) => Err(format!("an unexpected header: {other:?}")),
            None => Ok(()),
        }
    }

    /// Checks that the body matches its type.
    fn check_body(&self) -> Result<(), String> {
        if self.is_s3() {
            return self.check_xml();
        }
        let text = std::str::from_utf8(&self.body).map_err(|_error| "the body is not UTF-8")?;
        match self.header("content-type") {
            Some("text/plain; charset=utf-8") if self.status >= 400 => {
                let line = text.strip_suffix('\n').ok_or("the reason is no line")?;
                if line.is_empty() || line.contains(|c: char| c.is_control()) {
                    return Err(format!("the reason is no line of text: {line:?}"));
                }
            }
            Some("application/json") if self.status == 200 => {
                let list: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
                let is_whole = list["next"].is_string()
                    && list["keys"]
                        .as_array()
                        .is_some_and(|keys| keys.iter().all(serde_json::Value::is_string));
                if !is_whole {
                    return Err(format!("no listing: {text}"));
                }
            }
            None if self.body.is_empty() => {}
            other => return Err(format!("a {} of type {other:?}", self.status)),
        }
        Ok(())
    }

    /// Checks that a body that isn't an object's bytes is XML, and that an error has a code.
    fn check_xml(&self) -> Result<(), String> {
        if self.status < 400 && !self.body.starts_with(b"<?xml") {
            return Ok(());
        }
        let text = std::str::from_utf8(&self.body).map_err(|_error| "the XML is not UTF-8")?;
        let is_xml = text.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>") && text.ends_with('>');
        let is_error =
            ["<Error><Code>", "</Code><Message>", "</Message>"].iter().all(|part| text.contains(part));
        let is_odd = |c| matches!(c, '\0'..' ' | '\u{fffe}' | '\u{ffff}') && !matches!(c, '\n' | '\r' | '\t');
        if !is_xml || text.contains(is_odd) || (self.status >= 400 && !is_error) {
            return Err(format!("no XML: {text:?}"));
        }
        match self.header("content-type") {
            Some("application/xml") => Ok(()),
            other => Err(format!("XML of type {other:?}")),
        }
    }
}

/// Parses everything that a connection received as answers, the last of which must be complete. `heads` says
/// that there may be HEADs among the requests, whose answers have no body.
pub(crate) fn parse(mut bytes: &[u8], heads: bool) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let (mut answer, rest) = parse_head(bytes)?;
        let bodiless = answer.status < 200 || matches!(answer.status, 204 | 304);
        // a HEAD of a bucket announces no body
        let announced = answer.header("content-type").is_some()
            || (answer.is_s3() && answer.header("content-length").is_none());
        let withheld = heads && announced && (rest.is_empty() || rest.starts_with(b"HTTP/1."));
        bytes = if bodiless || withheld {
            rest
        } else {
            let rest = read_body(&mut answer, rest)?;
            answer.check_body()?;
            rest
        };
        answers.push(answer);
    }
    Ok(answers)
}

fn parse_head(bytes: &[u8]) -> Result<(Answer, &[u8]), String> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("a head without an end")?;
    let (head, rest) = (&bytes[..end], &bytes[end + 4..]);
    // this also ensures that lines end only with CRLF
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n');
    // headers stored with an object may have other characters
    let is_s3 = head.windows(S3_MARK.len()).any(|part| part == S3_MARK);
    if !head.iter().all(|byte| is_text(byte) || (is_s3 && (*byte == b'\t' || *byte >= 0x80))) {
        return Err(format!("odd bytes in a head: {}", head.escape_ascii()));
    }
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let version = &first[..first.len().min(9)];
    let status = first.get(9..12).and_then(|digits| digits.parse().ok());
    let status = status.filter(|status| (100..600).contains(status) && first.get(12..13) == Some(" "));
    let (Some(status), "HTTP/1.1 " | "HTTP/1.0 ") = (status, version) else {
        return Err(format!("no status line: {first:?}"));
    };
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("no header: {line:?}"))?;
        let once = !headers.iter().any(|(other, _)| other == name);
        if !once || value.contains(['\r', '\n']) {
            return Err(format!("an unexpected header: {line:?}"));
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new(), last: false };
    answer.check_headers()?;
    answer.last = version == "HTTP/1.0 " || answer.header("connection") == Some("close");
    Ok((answer, rest))
}

/// Moves the body into the answer, and returns what follows it.
fn read_body<'a>(answer: &mut Answer, bytes: &'a [u8]) -> Result<&'a [u8], String> {
    let (length, chunked) = (answer.header("content-length"), answer.header("transfer-encoding"));
    match (length.map(str::to_owned), chunked) {
        (Some(length), None) => {
            let length: usize = length.parse().map_err(|_error| format!("a length of {length:?}"))?;
            let (body, rest) = bytes.split_at_checked(length).ok_or("a body cut short")?;
            answer.body = body.to_vec();
            Ok(rest)
        }
        (None, Some("chunked")) => read_chunks(answer, bytes),
        (None, None) if answer.last => {
            answer.body = bytes.to_vec();
            Ok(b"")
        }
        framing => Err(format!("a body framed by {framing:?}")),
    }
}

fn read_chunks<'a>(answer: &mut Answer, mut bytes: &'a [u8]) -> Result<&'a [u8], String> {
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n").ok_or("a chunk without a size")?;
        let size =
            std::str::from_utf8(&bytes[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or("a chunk of no size")?;
        let (chunk, rest) = bytes[end + 2..].split_at_checked(size).ok_or("a chunk cut short")?;
        answer.body.extend(chunk);
        bytes = rest.strip_prefix(b"\r\n").ok_or("a chunk without an end")?;
        if size == 0 {
            return Ok(bytes);
        }
    }
}

/// Tests the checks themselves.
#[test]
fn invalid_answers_are_detected() {
    let parse = |text: &str| parse(text.as_bytes(), false);
    assert!(parse("HTTP/1.1 302 Found\r\nlocation: http://a/b\r\ncontent-length: 0\r\n\r\n").is_ok());
    assert!(parse("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").is_ok());
    for text in [
        "HTTP/1.1 302 Found\r\nlocation: http://a/\nset-cookie: b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://a/\r\nset-cookie: b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://a/ä\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://a/\0\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: a\r\nlocation: b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: a\r\n",
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 9\r\n\r\ncut",
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 4\r\n\r\na\nb\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n[1]",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 201 Created\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "hello",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}
