//! A corpus of hostile requests: generated families, and single named ones.

use std::fmt::Write as _;

use davkv::key::{Key, MAX_KEY_BYTES};

use crate::target::{Target, for_each_byte};

/// The statuses of hyper for a head that it can't parse, and davkv's for an invalid request.
const REFUSED: [u16; 4] = [400, 405, 414, 431];

fn request(
    method: &str,
    target: impl AsRef<[u8]>,
    headers: impl AsRef<[u8]>,
    body: impl AsRef<[u8]>,
) -> Vec<u8> {
    let (target, headers, body) = (target.as_ref(), headers.as_ref(), body.as_ref());
    [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: x\r\n", headers, b"\r\n", body].concat()
}

fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    request("GET", target, "", "")
}

fn put(target: impl AsRef<[u8]>) -> Vec<u8> {
    request("PUT", target, "Content-Length: 5\r\n", "value")
}

fn put_framed(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request("PUT", "/framed", headers, body)
}

/// The percent-encoding of a byte, like `%41`, with hex digits of either case.
fn escape(byte: u8) -> String {
    if byte.is_multiple_of(2) { format!("%{byte:02x}") } else { format!("%{byte:02X}") }
}

/// The expected status of a PUT of that key, decoded from a URL.
fn put_status(key: &[u8]) -> u16 {
    if Key::new(key).check().is_ok() { 201 } else { 400 }
}

#[test]
fn every_byte_is_handled_in_every_place() {
    let target = Target::with_fallback();
    for_each_byte(|byte| {
        let raw = |before: &str, after: &str| [before.as_bytes(), &[byte], after.as_bytes()].concat();
        let what = |place: &str| format!("byte {byte:#04x} {place}");
        // bytes that URLs don't allow are refused; `?` begins a query, which a PUT can't have; `#` ends the
        // target
        for (place, path) in [
            ("first in a path", raw(&format!("/{byte:02x}/raw/"), "a")),
            ("within a path", raw(&format!("/{byte:02x}/raw/a"), "b")),
            ("last in a path", raw(&format!("/{byte:02x}/raw/xyz"), "")),
        ] {
            target.attack(&what(place), &put(&path), &[201, 400]);
            target.attack(&what(place), &get(&path), &[302, 400]);
        }
        for (place, input) in [
            ("before a path", get(raw("", "/a"))),
            ("in a query", get(raw("/a?list", ""))),
            ("before a query", get(raw("/a?", "list"))),
            ("in start", get(raw("/a?list&start=/a", "b"))),
            ("in limit", get(raw("/a?list&limit=1", ""))),
        ] {
            target.attack(&what(place), &input, &[200, 302, 400]);
        }
        for (place, input) in [
            ("in the method", [raw("GE", "T"), b" /a HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()].concat()),
            ("after the method", [raw("GET", ""), b" /a HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()].concat()),
            ("before the method", raw("", "GET /a HTTP/1.1\r\nHost: x\r\n\r\n")),
            ("in the version", raw("GET /a HTTP/1.", "\r\nHost: x\r\n\r\n")),
            ("after the version", raw("GET /a HTTP/1.1", "\r\nHost: x\r\n\r\n")),
            ("within a line break", raw("GET /a HTTP/1.1\r", "\nHost: x\r\n\r\n")),
            ("in a header's name", request("GET", "/a", raw("X", "Y: z\r\n"), "")),
            ("before a header", request("GET", "/a", raw("", "X: z\r\n"), "")),
            ("after a header's name", request("GET", "/a", raw("X", ": z\r\n"), "")),
            ("in a header's value", request("GET", "/a", raw("X: y", "z\r\n"), "")),
            ("after the headers", request("GET", "/a", raw("", ""), "")),
        ] {
            target.attack(&what(place), &input, &[302, 400, 405, 0]);
        }
        for (place, headers) in [
            ("in a length", raw("Content-Length: 5", "\r\n")),
            ("before a length", raw("Content-Length: ", "5\r\n")),
            ("in a framing", raw("Transfer-Encoding: chunked", "\r\n")),
            ("in an expectation", raw("Content-Length: 5\r\nExpect: 100-continue", "\r\n")),
            ("in an MD5", raw("Content-Length: 5\r\nContent-MD5: ", "\r\n")),
        ] {
            let key = format!("/{byte:02x}/{}", place.replace(' ', "-"));
            target.attack(&what(place), &request("PUT", key, headers, "value"), &[201, 400, 411]);
        }
        let chunk = [raw("5", "\r\nvalue\r\n"), b"0\r\n\r\n".to_vec()].concat();
        let chunked = request("PUT", format!("/{byte:02x}/chunk"), "Transfer-Encoding: chunked\r\n", chunk);
        target.attack(&what("in a chunk's size"), &chunked, &[201, 400]);
    });
    target.assert_unharmed();
}

#[test]
fn every_escaped_byte_is_part_of_the_key_or_refused() {
    let target = Target::with_fallback();
    for_each_byte(|byte| {
        for (before, after) in [("", "a"), ("a", "b"), ("ab", "")] {
            let begin = format!("/{byte:02x}/escaped/{}", before.len());
            let path = format!("{begin}{before}{}{after}", escape(byte));
            let key = [begin.as_bytes(), before.as_bytes(), &[byte], after.as_bytes()].concat();
            target.attack(&path, &get(&path), &[302]);
            target.attack(&path, &put(&path), &[put_status(&key)]);
            let found = if put_status(&key) == 201 { 204 } else { 404 };
            for method in ["UNLINK", "RELINK", "REBALANCE", "DELETE"] {
                target.attack(&path, &request(method, &path, "", ""), &[found]);
            }
            target.attack(&path, &get(format!("{path}?list")), &[200]);
            target.attack(&path, &get(format!("/?list&start={path}&limit=3")), &[200]);
        }
        target.attack("an escaped query", &get(format!("/?{}", escape(byte))), &[400]);
        target.attack("an escaped limit", &get(format!("/?list&limit={}", escape(byte))), &[400]);
        let host = format!("GET /a HTTP/1.1\r\nHost: {}\r\n\r\n", escape(byte));
        target.attack("an escaped host", host.as_bytes(), &[302]);
    });
    target.assert_unharmed();
}

#[test]
fn keys_of_all_kinds_are_stored_or_refused() {
    let target = Target::with_fallback();
    let a = |count| "a".repeat(count);
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for length in [1, 2, 3, 190, MAX_KEY_BYTES - 1, MAX_KEY_BYTES, MAX_KEY_BYTES + 1, 8192, 20_000] {
        keys.push(format!("/{}", a(length - 1)).into_bytes());
        keys.push(vec![b'/'; length]);
        keys.push([b"/".as_slice(), &vec![0xff; length - 1]].concat());
        keys.push([b"/".as_slice(), &"ÿ".repeat(length / 2).into_bytes()].concat());
    }
    let texts = [
        "/.",
        "/..",
        "/../",
        "/../../etc/passwd",
        "/a/../b",
        "/a/./b",
        "//",
        "//a",
        "/a//b",
        "/a/",
        "/ ",
        "/%",
        "/%2f",
        "/%00",
        "/\\..\\a",
        "/~",
        "/,",
        "/+",
        "/?list",
        "/#a",
        "/a\r\nSet-Cookie: a=b",
        "/a\r\n\r\n<html>",
        "/\u{85}",
        "/\u{2028}",
        "/\u{202e}",
        "/\u{feff}",
        "/\u{10ffff}",
        "/\u{7f}",
        "/\0",
        "/nul\0nul",
        "/<script>",
        "/\"quoted\"",
        "/'; DROP TABLE",
        "/${jndi:x}",
        "/{{x}}",
        "/\u{1b}[31m",
        "/svCD",
        "/00/00/probe",
    ];
    keys.extend(texts.map(|text| text.as_bytes().to_vec()));
    let broken: [&[u8]; 12] = [
        b"/\xc0\xaf",
        b"/\xe0\x80\xaf",
        b"/\xf0\x80\x80\xaf",
        b"/\xed\xa0\x80",
        b"/\xf4\x90\x80\x80",
        b"/\xfe",
        b"/\x80",
        b"/\xc3",
        b"/a\xffb",
        b"/\xf8\x88\x80\x80\x80",
        b"/\xe2\x82",
        b"/\xc3\x28",
    ];
    keys.extend(broken.map(<[u8]>::to_vec));
    keys.sort();
    keys.dedup();
    for key in keys {
        let escaped = key[1..].iter().fold(String::from("/"), |mut path, byte| {
            write!(path, "{}", escape(*byte)).unwrap();
            path
        });
        let what = key[..key.len().min(60)].escape_ascii().to_string();
        // a target that exceeds the limit on heads is refused by the HTTP library
        let (expected, too_long) = (put_status(&key), escaped.len() > 65_000);
        let statuses = |status| if too_long { vec![414, 431] } else { vec![status] };
        target.attack(&what, &put(&escaped), &statuses(expected));
        target.attack(&what, &get(&escaped), &statuses(302));
        target.attack(&what, &get(format!("{escaped}?list")), &statuses(200));
        target.attack(&what, &get(format!("/?list&start={escaped}")), &statuses(200));
        let gone = if expected == 201 { 204 } else { 404 };
        target.attack(&what, &request("DELETE", &escaped, "", ""), &statuses(gone));
    }
    target.assert_unharmed();
}

/// Truncated and unusual escapes.
const ESCAPES: &str = "/% /%4 /%% /%4% /%zz /%4z /%u0041 /a% /a%2 /%-1 /%+1 /%0x41 /%\u{ff14}1 /?% /?list&start=% \
    /?list&start=%4 /?list&start=%zz /?list&%6c=1 /?l%69st";

/// Dot segments and slashes.
const SEGMENTS: &str = "/. /.. /../.. /a/../../b /..%2f /..%2f..%2fetc /%2e%2e/ /%2e%2e%2f // ///a /a//b /%2f /%2f%2f \
    /a%2f..%2fb /.%2e/%2e./ /a/. /a/..;/b /..\\ /%5c..%5c";

/// Valid and invalid forms of targets.
const FORMS: &str = "* a ?list evil:80 evil.example http://evil/key http://evil HTTP://EVIL/key https://evil/key \
    http://u:p@evil/key http://[::1]/key http://evil:99999/key http:///key http:// :// //evil/key ftp://evil/key \
    javascript:alert(1) file:///etc/passwd http://evil/key#a http://evil?list # /# /a? /a?? /a?# /a#?list /? /??list";

/// Queries that resemble davkv's.
const QUERIES: &str = "list&list list&unlinked list=1 unlinked=0 list&limit list&limit= list&limit=-1 list&limit=+1 \
    list&limit=1e3 list&limit=0x10 list&limit=1.5 list&limit=18446744073709551615 list&limit=18446744073709551616 \
    list&limit=9999999999999999999999999 list&limit=0 list&limit=00 list&limit=1&limit=2 list&start=/&start=/a list&start \
    list&start= list&start=%00 list&start=%00intent list&start=%ff%ff%ff%ff list&start=/zzz list&&start=/ &list list& start=/a \
    limit=1 list;limit=1 LIST list&Limit=1 acl uploads list-type=2 list&start=+ list&start=a=b list&start== = & &&&&";

const METHODS: &str = "GET HEAD PUT DELETE UNLINK RELINK REBALANCE CONNECT OPTIONS TRACE PATCH";

#[test]
fn targets_of_all_forms_are_keys_or_refused() {
    let target = Target::with_fallback();
    let words = [ESCAPES, SEGMENTS, FORMS].map(str::split_whitespace).into_iter().flatten();
    let mut targets: Vec<String> = words.map(str::to_owned).collect();
    for query in QUERIES.split_whitespace() {
        targets.extend(["/", "/victim", "/%00intent"].map(|path| format!("{path}?{query}")));
    }
    targets.extend([String::new(), "/a b".into(), "/% 4".into(), " /a".into(), "/a ".into(), "/a\tb".into()]);
    targets.extend([65_000, 1 << 20].map(|length| format!("/{}", "a".repeat(length))));
    targets.push(format!("/?list&start={}", "a".repeat(60_000)));
    for path in &targets {
        let shown: String = path.chars().take(80).collect();
        for method in METHODS.split(' ') {
            let input = if method == "PUT" { put(path) } else { request(method, path, "", "") };
            // 501: some of these are queries of S3
            let statuses = [200, 201, 204, 302, 400, 403, 404, 405, 414, 431, 501];
            target.attack(&format!("{method} {shown}"), &input, &statuses);
        }
    }
    target.assert_unharmed();
}

/// Framings that two parsers might interpret differently.
#[test]
fn contradictory_framings_are_refused() {
    let target = Target::with_fallback();
    let chunks = "5\r\nvalue\r\n0\r\n\r\n";
    let smuggled = "DELETE /victim HTTP/1.1\r\nHost: x\r\n\r\n";
    let refused = [
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("a list of lengths", "Content-Length: 5, 5\r\n"),
        ("a list of two lengths", "Content-Length: 5, 6\r\n"),
        ("a length with a sign", "Content-Length: +5\r\n"),
        ("a negative length", "Content-Length: -1\r\n"),
        ("a length in hex", "Content-Length: 0x5\r\n"),
        ("a length with a point", "Content-Length: 5.0\r\n"),
        ("a length with a space", "Content-Length: 5 5\r\n"),
        ("a length with an underscore", "Content-Length: 1_0\r\n"),
        ("a length of other digits", "Content-Length: \u{665}\r\n"),
        ("no length", "Content-Length:\r\n"),
        ("a length of 2^64 - 1", "Content-Length: 18446744073709551615\r\n"),
        ("a length of 2^64", "Content-Length: 18446744073709551616\r\n"),
        ("a length of 2^64 + 5", "Content-Length: 18446744073709551621\r\n"),
        ("a length and no chunks", "Content-Length: 5\r\nTransfer-Encoding: identity\r\n"),
        ("an unknown encoding", "Transfer-Encoding: gzip\r\n"),
        ("an unknown encoding of chunks", "Transfer-Encoding: gzip, chunked\r\n"),
        ("chunks of an unknown encoding", "Transfer-Encoding: chunked, gzip\r\n"),
        ("chunks of chunks", "Transfer-Encoding: chunked, chunked\r\n"),
        ("two encodings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("two different encodings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("an encoding that looks like chunks", "Transfer-Encoding: xchunked\r\n"),
        ("a quoted encoding", "Transfer-Encoding: \"chunked\"\r\n"),
        ("an encoding with a parameter", "Transfer-Encoding: chunked;q=1\r\n"),
        ("an encoding after a vertical tab", "Transfer-Encoding:\u{b}chunked\r\n"),
        ("no encoding", "Transfer-Encoding:\r\n"),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("a length with a space before the colon", "Content-Length : 5\r\n"),
        ("a folded encoding", "Transfer-Encoding:\r\n chunked\r\n"),
        ("a folded length", "Content-Length:\r\n 5\r\n"),
        ("a header that is folded into one", "X: y\r\n Content-Length: 5\r\n"),
        ("a length ended by NUL", "Content-Length: 5\0\r\n"),
        ("a return within", "X: y\rContent-Length: 5\r\n"),
    ];
    for (what, headers) in refused {
        for body in ["value", chunks, smuggled, ""] {
            // davkv sees neither a length nor chunks, and so an empty value
            target.attack(what, &put_framed(headers, body), &[400, 411, 431]);
            target.attack(what, &request("GET", "/a", headers, body), &[302, 400, 431]);
            target.attack(what, &request("DELETE", "/a", headers, body), &[400, 404, 431]);
        }
    }
    let lengths =
        ["9223372036854775807", "9223372036854775808", "18446744073709551613", "4294967296", "1000"];
    for length in lengths {
        // the body is never sent: a client that disconnects early stores nothing
        let headers = format!("Content-Length: {length}\r\n");
        target.attack("a length that is not kept", &put_framed(&headers, "value"), &[400, 431]);
        let answers = target.send("a length that is not kept", &put_framed(&headers, "value"));
        assert!(answers.iter().all(|answer| answer.status >= 400), "{answers:?}");
    }
    target.assert_unharmed();
}

#[test]
fn chunks_of_all_kinds_are_decoded_or_refused() {
    let target = Target::with_fallback();
    let many = "1\r\na\r\n".repeat(20_000) + "0\r\n\r\n";
    let extension = |length| format!("5;{}\r\nvalue\r\n0\r\n\r\n", "x".repeat(length));
    let trailers = |count| format!("5\r\nvalue\r\n0\r\n{}\r\n", "T: u\r\n".repeat(count));
    let (short, long, longer) = (extension(100), extension(20_000), extension(1 << 20));
    let (few, too_many, huge) =
        (trailers(3), trailers(1000), format!("5\r\nvalue\r\n0\r\nT: {}\r\n\r\n", "u".repeat(1 << 20)));
    let good = [
        ("one chunk", "5\r\nvalue\r\n0\r\n\r\n"),
        ("many chunks", many.as_str()),
        ("leading zeros", "005\r\nvalue\r\n000\r\n\r\n"),
        ("an extension", "5;a=b\r\nvalue\r\n0;c=\"d\"\r\n\r\n"),
        ("an extension of some length", &short),
        ("trailers", &few),
        ("a trailer that frames", "5\r\nvalue\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\n\r\n"),
    ];
    for (what, body) in good {
        let chunked = request(
            "PUT",
            format!("/chunks/{}", what.replace(' ', "-")),
            "Transfer-Encoding: chunked\r\n",
            body,
        );
        target.attack(what, &chunked, &[201]);
    }
    let bad = [
        ("an extension of any length", long.as_str()),
        ("an endless extension", &longer),
        ("too many trailers", &too_many),
        ("a huge trailer", &huge),
        ("a size beyond 64 bits", "10000000000000005\r\nvalue\r\n0\r\n\r\n"),
        ("a size of 64 bits", "ffffffffffffffff\r\nvalue\r\n0\r\n\r\n"),
        ("a size of 63 bits", "7fffffffffffffff\r\nvalue\r\n0\r\n\r\n"),
        (
            "a size of 65 zeros",
            "00000000000000000000000000000000000000000000000000000000000000005\r\nvaluE\r\n",
        ),
        ("a negative size", "-5\r\nvalue\r\n0\r\n\r\n"),
        ("a size with a sign", "+5\r\nvalue\r\n0\r\n\r\n"),
        ("a size with 0x", "0x5\r\nvalue\r\n0\r\n\r\n"),
        ("no size", "\r\nvalue\r\n0\r\n\r\n"),
        ("a size of nothing", ";a\r\nvalue\r\n0\r\n\r\n"),
        ("no digits", "z\r\nvalue\r\n0\r\n\r\n"),
        ("a chunk too long", "4\r\nvalue\r\n0\r\n\r\n"),
        ("a chunk too short", "6\r\nvalue\r\n0\r\n\r\n"),
        ("a chunk without its end", "5\r\nvalue0\r\n\r\n"),
        ("line feeds alone", "5\nvalue\n0\n\n"),
        ("a line feed in an extension", "5;a\nb\r\nvalue\r\n0\r\n\r\n"),
        ("a size ended by NUL", "5\0\r\nvalue\r\n0\r\n\r\n"),
        ("no last chunk", "5\r\nvalue\r\n"),
        ("a last chunk cut short", "5\r\nvalue\r\n0\r\n"),
        ("a trailer that is none", "5\r\nvalue\r\n0\r\nnonsense\r\n\r\n"),
    ];
    for (what, body) in bad {
        let chunked = put_framed("Transfer-Encoding: chunked\r\n", body);
        target.attack(what, &chunked, &[400]);
    }
    target.assert_unharmed();
}

#[test]
fn requests_inside_bodies_are_not_run() {
    let target = Target::with_fallback();
    let smuggled = "DELETE /victim HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = smuggled.len();
    for (what, input) in [
        ("within a body", put_framed(&format!("Content-Length: {length}\r\n"), smuggled)),
        (
            "within a chunk",
            put_framed("Transfer-Encoding: chunked\r\n", format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n")),
        ),
        (
            "within an extension",
            put_framed("Transfer-Encoding: chunked\r\n", format!("5;{smuggled}value\r\n0\r\n\r\n")),
        ),
        (
            "after a length and chunks",
            put_framed(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                format!("5\r\nvalue\r\n0\r\n\r\n{smuggled}"),
            ),
        ),
        (
            "after chunks and a length",
            put_framed("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", format!("0\r\n\r\n{smuggled}")),
        ),
        (
            "after a length of nothing and chunks",
            put_framed("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", format!("0\r\n\r\n{smuggled}")),
        ),
        ("in the body of a GET", request("GET", "/a", format!("Content-Length: {length}\r\n"), smuggled)),
        (
            "in the body of a refused PUT",
            request("PUT", "/victim", format!("Content-Length: {length}\r\n"), smuggled),
        ),
        (
            "in a body that is announced",
            put_framed(&format!("Content-Length: {length}\r\nExpect: 100-continue\r\n"), smuggled),
        ),
        (
            "in a refused body that is announced",
            request(
                "PUT",
                "/victim",
                format!("Content-Length: {length}\r\nExpect: 100-continue\r\n"),
                smuggled,
            ),
        ),
        (
            "in a header",
            request("GET", "/a", format!("X: {}", smuggled.trim_end()), "")
                .iter()
                .map(|b| if *b == b'\r' { b' ' } else { *b })
                .collect(),
        ),
        ("behind what HTTP/1.0 closes", format!("GET /a HTTP/1.0\r\n\r\n{smuggled}").into_bytes()),
        (
            "behind an upgrade",
            request("GET", "/a", "Connection: Upgrade, close\r\nUpgrade: h2c\r\n", smuggled),
        ),
        ("behind HTTP/2", format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{smuggled}").into_bytes()),
    ] {
        target.send(what, &input);
        let victim = target.cluster.request("GET", "/victim", b"");
        assert_eq!(victim.status, 302, "smuggled {what}");
        target.cluster.request("DELETE", "/framed", b"");
    }
    target.assert_unharmed();
}

#[test]
fn heads_of_all_kinds_are_parsed_or_refused() {
    let target = Target::with_fallback();
    let header = |name: usize, value: usize| format!("{}: {}\r\n", "n".repeat(name), "v".repeat(value));
    let ranges = "0-0,".repeat(5000);
    let refused: [(&str, Vec<u8>); 38] = [
        ("two hosts", request("GET", "/a", "Host: x\r\n", "")),
        ("an odd host", b"GET /a HTTP/1.1\r\nHost: <>{}|^`%\"\r\n\r\n".to_vec()),
        ("a fragment", request("GET", "/a#b", "", "")),
        ("65 headers", request("GET", "/a", "X: y\r\n".repeat(65), "")),
        ("10,000 headers", request("GET", "/a", "X: y\r\n".repeat(10_000), "")),
        ("a header of 256 KiB", request("GET", "/a", header(1, 1 << 18), "")),
        ("a header of 1 MiB", request("GET", "/a", header(1, 1 << 20), "")),
        ("a name of 256 KiB", request("GET", "/a", header(1 << 18, 1), "")),
        ("a name of 1 MiB", request("GET", "/a", header(1 << 20, 1), "")),
        ("a method of 256 KiB", request(&"M".repeat(1 << 18), "/a", "", "")),
        ("a method of 1 MiB", request(&"M".repeat(1 << 20), "/a", "", "")),
        ("a version of 1 MiB", format!("GET /a HTTP/{}\r\n\r\n", "1".repeat(1 << 20)).into_bytes()),
        ("no host", b"GET /a HTTP/1.1\r\n\r\n".to_vec()),
        ("a space before the colon", request("GET", "/a", "X : y\r\n", "")),
        ("a folded header", request("GET", "/a", "X: y\r\n z\r\n", "")),
        ("a folded first header", b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n".to_vec()),
        ("no name", request("GET", "/a", ": y\r\n", "")),
        ("no colon", request("GET", "/a", "nonsense\r\n", "")),
        ("an empty method", request("", "/a", "", "")),
        ("a method of separators", request("G(E)T", "/a", "", "")),
        ("an unknown method", request("BREW", "/a", "", "")),
        ("a method in lower case", request("get", "/a", "", "")),
        ("POST", request("POST", "/a", "Content-Length: 5\r\n", "value")),
        ("no version", b"GET /a\r\nHost: x\r\n\r\n".to_vec()),
        ("HTTP/0.9", b"GET /a\r\n".to_vec()),
        ("HTTP/2.0", b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n".to_vec()),
        ("HTTP/3", b"GET /a HTTP/3\r\nHost: x\r\n\r\n".to_vec()),
        ("HTTP/1.10", b"GET /a HTTP/1.10\r\nHost: x\r\n\r\n".to_vec()),
        ("http/1.1", b"GET /a http/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("words", b"hello, is there anybody?\r\n\r\n".to_vec()),
        ("JSON", b"{\"method\": \"GET\"}\r\n\r\n".to_vec()),
        ("XML", b"<?xml version=\"1.0\"?>\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("SMB", b"\x00\x00\x00\x85\xffSMB\x72\x00\x00\x00\x00\r\n\r\n".to_vec()),
        ("zeros", vec![0; 100_000]),
        ("ones", vec![0xff; 100_000]),
        ("a redis command", b"*1\r\n$4\r\nPING\r\n".to_vec()),
    ];
    for (what, input) in &refused {
        target.attack(what, input, &[&REFUSED[..], &[0]].concat());
    }
    let read: [(&str, Vec<u8>); 14] = [
        ("64 headers with the host", request("GET", "/a", "X: y\r\n".repeat(63), "")),
        ("a header of 32 KiB", request("GET", "/a", header(1, 1 << 15), "")),
        ("line feeds alone", b"GET /a HTTP/1.1\nHost: x\n\n".to_vec()),
        ("empty lines before", [b"\r\n\r\n\n\n".as_slice(), &get("/a")].concat()),
        ("many empty lines before", [b"\r\n".repeat(10_000), get("/a")].concat()),
        ("bytes beyond ASCII in a value", request("GET", "/a", b"X: \xff\xfe\x80\r\n", "")),
        ("ranges", request("GET", "/victim", format!("Range: bytes={ranges}\r\n"), "")),
        ("odd ranges", request("GET", "/victim", "Range: bytes=-1-2,x-\r\nIf-Range: x\r\n", "")),
        ("conditions", request("GET", "/victim", "If-None-Match: *\r\nIf-Modified-Since: never\r\n", "")),
        ("an upgrade", request("GET", "/a", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "")),
        (
            "odd hop-by-hop headers",
            request("GET", "/a", "Connection: Host, close, x\r\nTE: trailers\r\nProxy-Connection: y\r\n", ""),
        ),
        ("an expectation without a body", request("GET", "/a", "Expect: 100-continue\r\n", "")),
        ("HTTP/1.0", b"GET /a HTTP/1.0\r\n\r\n".to_vec()),
        ("a kept HTTP/1.0", b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec()),
    ];
    for (what, input) in &read {
        target.attack(what, input, &[302]);
    }
    target.assert_unharmed();
}

#[test]
fn wrong_expectations_and_md5s_are_refused() {
    let target = Target::with_fallback();
    for (n, (headers, body)) in [
        ("Expect: 100-continue\r\nContent-Length: 5\r\n", "value"),
        ("Expect: 100-continue\r\nContent-Length: 9\r\n", "value"),
        ("Expect: 100-continue\r\nContent-Length: 0\r\n", ""),
        ("Expect: 100-continue\r\nContent-Length: 0\r\n", "value"),
        ("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "5\r\nval"),
        ("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", "value"),
        ("Expect: 100-CONTINUE\r\nContent-Length: 5\r\n", "value"),
        ("Expect: 200-ok\r\nContent-Length: 5\r\n", "value"),
        ("Expect:\r\nContent-Length: 5\r\n", "value"),
        ("Expect: 100-continue\r\n", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("/expect/{n}");
        target.attack(headers, &request("PUT", &key, headers, body), &[201, 400, 411]);
        target.attack(headers, &request("PUT", "/victim", headers, body), &[400, 403, 411]);
    }
    let huge = "A".repeat(40_000);
    for md5 in [
        "",
        "=",
        "====",
        "A",
        "AAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAA=",
        "AAAAAAAAAAAAAAAAAAAAAA===",
        "00000000000000000000000000000000",
        "0000000000000000000000000000000",
        "000000000000000000000000000000000",
        "0x000000000000000000000000000000",
        "+0000000000000000000000000000000",
        "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
        "-0000000000000000000000000000000",
        "AAAAAAAAAAAAAAAAAAAAAA==, AAAAAAAAAAAAAAAAAAAAAA==",
        "AAAAAAAAAAAAAAAAAAAAAA==\t.",
        "\u{ff10}\u{ff10}",
        "\"00000000000000000000000000000000\"",
        "null",
        &huge,
    ] {
        let headers = format!("Content-Length: 5\r\nContent-MD5: {md5}\r\n");
        target.attack("an MD5 that lies", &put_framed(&headers, "value"), &[400]);
    }
    target.assert_unharmed();
}
