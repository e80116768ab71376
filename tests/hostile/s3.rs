//! Hostile requests to the S3 API: all bytes in all places, XML, chunked uploads, queries, ranges, and
//! signatures.

use std::fmt::Write as _;

use crate::target::{Target, for_each_byte};

/// The statuses for an invalid request; 0 is a closed connection.
const REFUSED: [u16; 8] = [400, 404, 411, 412, 416, 431, 501, 0];
/// The statuses for a request that may be valid.
const ANY: [u16; 17] = [200, 204, 206, 304, 400, 403, 404, 405, 409, 411, 412, 414, 416, 431, 501, 503, 0];

fn request(
    method: &str,
    target: impl AsRef<[u8]>,
    headers: impl AsRef<[u8]>,
    body: impl AsRef<[u8]>,
) -> Vec<u8> {
    let (target, headers, body) = (target.as_ref(), headers.as_ref(), body.as_ref());
    let mark = b" HTTP/1.1\r\nHost: x\r\nx-amz-mark: 1\r\n";
    [method.as_bytes(), b" ", target, mark, headers, b"\r\n", body].concat()
}

/// A request with a content length.
fn sized(method: &str, target: &str, headers: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    let length = format!("Content-Length: {}\r\n", body.as_ref().len());
    request(method, target, [length.as_bytes(), headers.as_ref()].concat(), body)
}

fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    request("GET", target, "", "")
}

fn delete_all(xml: impl AsRef<[u8]>) -> Vec<u8> {
    sized("POST", "/bucket?delete", "", xml)
}

/// A request in chunks without signatures.
fn chunked(decoded: &str, trailer: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let headers = format!(
        "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n\
         x-amz-decoded-content-length: {decoded}\r\n{trailer}"
    );
    sized("PUT", "/bucket/chunks", headers, body)
}

/// A master with an object that hostile requests must not change, beside the one of the native API.
fn target() -> Target {
    let target = Target::new(&[]);
    target.attack("an object", &sized("PUT", "/bucket/victim", "", "unharmed"), &[200]);
    target
}

/// Asserts that the object is unchanged.
#[track_caller]
fn assert_unharmed(target: &Target) {
    let found = target.cluster.fetch("/bucket/victim");
    assert_eq!((found.status, found.text().as_str()), (200, "unharmed"));
    target.assert_unharmed();
}

#[test]
#[allow(clippy::too_many_lines, reason = "a list of places")]
fn every_byte_is_handled_in_every_place() {
    let target = target();
    for_each_byte(|byte| {
        let raw = |before: &str, after: &str| [before.as_bytes(), &[byte], after.as_bytes()].concat();
        let what = |place: &str| format!("byte {byte:#04x} {place}");
        for (place, path) in [
            ("in a key", raw(&format!("/bytes/{byte:02x}"), "a")),
            ("in a bucket", raw(&format!("/bytes{byte:02x}"), "/a")),
            ("escaped in a key", format!("/bytes/{byte:02x}e%{byte:02x}").into_bytes()),
            ("escaped in a bucket", format!("/bytes{byte:02x}e%{byte:02x}/a").into_bytes()),
        ] {
            target.attack(&what(place), &request("PUT", &path, "Content-Length: 1\r\n", "v"), &ANY);
            target.attack(&what(place), &get(&path), &ANY);
            target.attack(&what(place), &get([&path, &b"?acl"[..]].concat()), &ANY);
            target.attack(&what(place), &request("DELETE", &path, "", ""), &ANY);
            target.attack(&what(place), &get([&path, &b"?list-type=2"[..]].concat()), &ANY);
        }
        for query in [
            "prefix=a",
            "delimiter=",
            "marker=a",
            "max-keys=1",
            "encoding-type=url",
            "list-type=2&continuation-token=YQ",
            "list-type=2&start-after=a",
            "versions&key-marker=a",
            "versions&version-id-marker=a",
            "uploads&key-marker=a&upload-id-marker=0",
            "uploads&max-uploads=1",
        ] {
            target.attack(&what(query), &get(raw(&format!("/bucket?{query}"), "")), &ANY);
            target.attack(&what(query), &get(format!("/bucket?{query}%{byte:02x}")), &ANY);
        }
        for query in ["versionId=null", "partNumber=1", "uploadId=0", "response-content-type=a", "x-id=a"] {
            target.attack(&what(query), &get(raw(&format!("/bucket/victim?{query}"), "")), &ANY);
            target.attack(&what(query), &get(format!("/bucket/victim?{query}%{byte:02x}")), &ANY);
        }
        for header in [
            "Range: bytes=0-1",
            "If-Match: \"a",
            "If-None-Match: ",
            "If-Modified-Since: Mon, 01 Jan 2001 00:00:0",
            "x-amz-checksum-mode: ENABLED",
            "x-amz-date: 2",
            "Origin: http://a",
            "Authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=h",
        ] {
            let headers = [raw(header, ""), b"\r\n".to_vec()].concat();
            target.attack(&what(header), &request("GET", "/bucket/victim", headers, ""), &ANY);
        }
        for header in [
            "Content-Type: a",
            "Content-MD5: ",
            "Cache-Control: a",
            "Content-Disposition: a",
            "Content-Encoding: a",
            "Expires: Mon, 01 Jan 2001 00:00:00 GM",
            "x-amz-meta-a: b",
            "x-amz-meta-",
            "x-amz-acl: private",
            "x-amz-storage-class: STANDARD",
            "x-amz-content-sha256: UNSIGNED-PAYLOAD",
            "x-amz-checksum-crc32: AAAAAA=",
            "x-amz-sdk-checksum-algorithm: CRC32",
            "x-amz-decoded-content-length: 1",
            "x-amz-trailer: x-amz-checksum-crc32",
            "x-amz-copy-source: /bucket/victim",
            "x-amz-copy-source-range: bytes=0-1",
            "x-amz-metadata-directive: COPY",
            "If-None-Match: *",
        ] {
            let headers = [raw(header, ""), b"\r\nContent-Length: 1\r\n".to_vec()].concat();
            let key = format!("/bytes/{byte:02x}h");
            target.attack(&what(header), &request("PUT", &key, headers, "v"), &ANY);
            target.attack(&what(header), &get(&key), &ANY);
            let mut created = raw(header, "");
            created.extend(b"\r\n");
            target.attack(&what(header), &request("POST", "/bytes/u?restore", created, ""), &[400, 501, 0]);
        }
        for xml in [
            "<Delete><Object><Key>a",
            "<Delete><Object><Ke",
            "<Delete",
            "<Delete><Object><Key>&",
            "<Delete><Object><Key>&#",
            "<Delete><Object><Key a=\"",
            "<Delete><!--",
            "<Delete><?",
            "",
        ] {
            let rest = "</Key></Object></Delete>";
            target.attack(&what(xml), &delete_all(raw(xml, rest)), &ANY);
        }
        for chunk in [
            raw("1", "\r\nv\r\n0\r\n\r\n"),
            raw("1;chunk-signature=", "\r\nv\r\n0\r\n\r\n"),
            raw("1\r", "\nv\r\n0\r\n\r\n"),
            raw("1\r\nv", "\r\n0\r\n\r\n"),
            raw("1\r\nv\r\n0", "\r\n\r\n"),
            raw("1\r\nv\r\n0\r\nx-amz-checksum-crc32:", "\r\n\r\n"),
            raw("1\r\nv\r\n0\r\n", "\r\n"),
        ] {
            target.attack(&what("in chunks"), &chunked("1", "", &chunk), &ANY);
            let trailer = "x-amz-trailer: x-amz-checksum-crc32\r\n";
            target.attack(&what("in chunks with a trailer"), &chunked("1", trailer, &chunk), &REFUSED);
        }
    });
    assert_unharmed(&target);
}

#[test]
fn xml_of_all_kinds_is_parsed_or_refused() {
    let target = target();
    let laughs = {
        let mut text = String::from("<!DOCTYPE a [<!ENTITY a0 \"laugh\">");
        for n in 1..10 {
            write!(text, "<!ENTITY a{n} \"{}\">", format!("&a{};", n - 1).repeat(10)).unwrap();
        }
        text + "]><Delete><Object><Key>&a9;</Key></Object></Delete>"
    };
    let parameter = "<!DOCTYPE a [<!ENTITY % b SYSTEM \"file:///etc/passwd\">%b;]><Delete></Delete>";
    let external = "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]>\
                    <Delete><Object><Key>&b;</Key></Object></Delete>";
    let deep = |depth: usize| format!("{}{}", "<Delete>".repeat(depth), "</Delete>".repeat(depth));
    let unknown = |depth: usize| format!("<Delete>{}{}</Delete>", "<a>".repeat(depth), "</a>".repeat(depth));
    let within = |depth: usize| {
        let (open, close) = ("<a>".repeat(depth), "</a>".repeat(depth));
        format!("<Delete><Object><Key>{open}b{close}</Key></Object></Delete>")
    };
    let many = |count: usize, what: &str| format!("<Delete>{}</Delete>", what.repeat(count));
    let object = "<Object><Key>none</Key></Object>";
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("a billion laughs", laughs, &[400]),
        ("a parameter entity", parameter.to_owned(), &[400]),
        ("an external entity", external.to_owned(), &[400]),
        ("deep", deep(100_000), &[400]),
        ("deep and unknown", unknown(100_000), &[200, 400]),
        ("deep within a key", within(100_000), &[400]),
        ("never closed", "<Delete>".repeat(100_000), &[400]),
        ("closed only", "</Delete>".repeat(100_000), &[400]),
        ("many attributes", format!("<Delete {}></Delete>", "a=\"b\" ".repeat(100_000)), &[400]),
        ("a long attribute", format!("<Delete a=\"{}\"></Delete>", "b".repeat(3 << 20)), &[400]),
        ("a long name", format!("<{}>", "a".repeat(3 << 20)), &[400]),
        ("a long comment", format!("<!--{}--><Delete></Delete>", "a".repeat(3 << 20)), &[400]),
        ("a comment without end", format!("<!--{}", "a".repeat(3 << 20)), &[400]),
        ("an instruction without end", format!("<?{}", "a".repeat(3 << 20)), &[400]),
        ("CDATA without end", format!("<Delete><![CDATA[{}", "a".repeat(3 << 20)), &[400]),
        ("a doctype without end", format!("<!DOCTYPE {}", "[".repeat(3 << 20)), &[400]),
        (
            "a long key",
            format!("<Delete><Object><Key>{}</Key></Object></Delete>", "a".repeat(3 << 20)),
            &[200],
        ),
        ("1,000 objects", many(1000, object), &[200]),
        ("1,001 objects", many(1001, object), &[400]),
        ("100,000 objects", many(100_000, object), &[400]),
        ("100,000 empty ones", many(100_000, "<Object/>"), &[400]),
        (
            "objects in objects",
            many(1, &format!("{}{}", "<Object>".repeat(500), "</Object>".repeat(500))),
            &[400],
        ),
        ("more than is read", many(1, &" ".repeat(5 << 20)), &[400]),
        ("a key with a control", many(1, "<Object><Key>&#0;</Key></Object>"), &[200, 400]),
        ("a key of controls", many(1, "<Object><Key>&#1;&#x1b;[31m</Key></Object>"), &[200, 400]),
        ("a surrogate", many(1, "<Object><Key>&#xD800;</Key></Object>"), &[200, 400]),
        ("a number too large", many(1, "<Object><Key>&#99999999999;</Key></Object>"), &[200, 400]),
        ("nothing", String::new(), &[400]),
        ("white space", " ".repeat(1000), &[400]),
        ("another root", "<CompleteMultipartUpload></CompleteMultipartUpload>".to_owned(), &[400]),
        ("JSON", "{\"Delete\": []}".to_owned(), &[400]),
        ("NULs", "\0".repeat(1000), &[400]),
        ("UTF-16", "\u{feff}<\0D\0e\0".to_owned(), &[400]),
    ];
    for (what, xml, statuses) in &cases {
        target.attack(what, &delete_all(xml), statuses);
        // for every request that takes XML
        let completion = xml.replace("Delete", "CompleteMultipartUpload").replace("Object", "Part");
        target.attack(
            what,
            &sized("POST", "/bucket/a?uploadId=0000000000000001", "", completion),
            &[400, 404],
        );
        let bucket = xml.replace("Delete", "CreateBucketConfiguration");
        target.attack(what, &sized("PUT", "/other-bucket", "", bucket), &[200, 400, 409]);
    }
    for body in [&[0xff; 1000][..], &[0xfe, 0xff, 0, b'<'], b"<Delete>\xc3</Delete>", b"\xef\xbb\xbf"] {
        target.attack("no UTF-8", &delete_all(body), &[400]);
    }
    assert_unharmed(&target);
}

#[test]
fn lists_of_parts_of_all_kinds_are_parsed_or_refused() {
    let target = target();
    let begun = target.send("an upload", &request("POST", "/bucket/parts?uploads", "", ""));
    let xml = String::from_utf8(begun[0].body().to_vec()).unwrap();
    let (_, rest) = xml.split_once("<UploadId>").unwrap();
    let by_id = format!("/bucket/parts?uploadId={}", rest.split_once('<').unwrap().0);
    let part =
        |number: &str, tag: &str| format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
    let list = |parts: &str| format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let all: String = (1..=10_001).map(|n| part(&n.to_string(), "\"x\"")).collect();
    for (what, body) in [
        ("10,001 parts", list(&all)),
        ("50,000 parts", list(&part("1", "\"x\"").repeat(50_000))),
        ("no parts", list("")),
        ("no number", list("<Part><ETag>\"x\"</ETag></Part>")),
        ("no tag", list("<Part><PartNumber>1</PartNumber></Part>")),
        (
            "two numbers",
            list("<Part><PartNumber>1</PartNumber><PartNumber>2</PartNumber><ETag>a</ETag></Part>"),
        ),
        (
            "a checksum of the wrong kind",
            list("<Part><PartNumber>1</PartNumber><ChecksumCRC32>?</ChecksumCRC32></Part>"),
        ),
        ("a long tag", list(&part("1", &"x".repeat(1 << 20)))),
        ("a quoted tag", list(&part("1", "\"\"\"\"\""))),
    ] {
        target.attack(what, &sized("POST", &by_id, "", body), &[400]);
    }
    for number in "0 -1 +1 1.5 1e3 0x1 10001 65536 65537 2147483647 2147483648 -2147483648 4294967297 \
                   18446744073709551617 99999999999999999999999999 a \u{664} %00"
        .split_whitespace()
    {
        target.attack(number, &sized("POST", &by_id, "", list(&part(number, "x"))), &[400]);
        target.attack(number, &sized("PUT", &format!("{by_id}&partNumber={number}"), "", "v"), &[400, 0]);
        target.attack(number, &get(format!("{by_id}&max-parts={number}")), &[200, 400, 0]);
        target.attack(number, &get(format!("{by_id}&part-number-marker={number}")), &[200, 400, 0]);
        target.attack(number, &get(format!("/bucket/victim?partNumber={number}")), &[200, 206, 400, 416, 0]);
    }
    for id in [
        "",
        "0",
        "x",
        "-1",
        "ffffffffffffffff",
        "10000000000000000",
        "..",
        "%2F",
        "%FF",
        "%00",
        "a&uploadId=b",
    ] {
        for (method, body) in
            [("GET", ""), ("DELETE", ""), ("POST", "<CompleteMultipartUpload/>"), ("PUT", "v")]
        {
            let more = if method == "PUT" { "&partNumber=1" } else { "" };
            let input = sized(method, &format!("/bucket/parts?uploadId={id}{more}"), "", body);
            target.attack(&format!("{method} of {id}"), &input, &[400, 404]);
        }
    }
    target.attack("its end", &request("DELETE", &by_id, "", ""), &[204]);
    assert_unharmed(&target);
}

#[test]
fn chunks_of_all_kinds_are_decoded_or_refused() {
    let target = target();
    let good = "5\r\nvalue\r\n0\r\n\r\n";
    let signature = "a".repeat(64);
    for (what, decoded, body) in [
        ("one chunk", "5", good.to_owned()),
        ("leading zeros", "5", "0000000000000005\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("an unknown extension", "5", "5;a=b;c\r\nvalue\r\n0;d\r\n\r\n".to_owned()),
        (
            "a signature that nobody looks at",
            "5",
            format!("5;chunk-signature={signature}\r\nvalue\r\n0\r\n\r\n"),
        ),
        ("many chunks", "20000", "1\r\na\r\n".repeat(20_000) + "0\r\n\r\n"),
        ("no line after the last", "5", "5\r\nvalue\r\n0\r\n".to_owned()),
        ("no bytes", "0", "0\r\n\r\n".to_owned()),
    ] {
        target.attack(what, &chunked(decoded, "", body), &[200]);
    }
    for (what, decoded, body) in [
        ("a size of 2^64 - 1", "5", "ffffffffffffffff\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("a size of 2^64", "5", "10000000000000000\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("a size of 2^63", "5", "8000000000000000\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("a size with zeros without end", "5", format!("{}5\r\nvalue\r\n0\r\n\r\n", "0".repeat(1000))),
        ("a negative size", "5", "-5\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("a size with a sign", "5", "+5\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("a size in other digits", "5", "\u{665}\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("a size with 0x", "5", "0x5\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("no size", "5", "\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("only an extension", "5", ";a=b\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("a size too small", "5", "4\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("a size too large", "5", "6\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("no end of line", "5", "5\nvalue\n0\n\n".to_owned()),
        ("no last chunk", "5", "5\r\nvalue\r\n".to_owned()),
        ("nothing", "5", String::new()),
        ("more than announced", "4", good.to_owned()),
        ("less than announced", "6", good.to_owned()),
        ("another chunk after the last", "10", format!("{good}{good}")),
        ("a long extension", "5", format!("5;{}\r\nvalue\r\n0\r\n\r\n", "x".repeat(1 << 20))),
        ("a line without end", "5", "5".repeat(1 << 20)),
        ("a signature that is none", "5", "5;chunk-signature=x\r\nvalue\r\n0\r\n\r\n".to_owned()),
        ("a trailer that nobody announced", "5", "5\r\nvalue\r\n0\r\na:b\r\n\r\n".to_owned()),
        ("a trailer without a colon", "5", "5\r\nvalue\r\n0\r\nab\r\n\r\n".to_owned()),
        ("many trailers", "5", format!("5\r\nvalue\r\n0\r\n{}\r\n", "a:b\r\n".repeat(10_000))),
        ("a trailer without end", "5", format!("5\r\nvalue\r\n0\r\na:{}", "b".repeat(1 << 20))),
        ("trailers that are no text", "5", "5\r\nvalue\r\n0\r\n\0\x01:\x02\r\n\r\n".to_owned()),
    ] {
        target.attack(what, &chunked(decoded, "", body), &REFUSED);
    }
    for decoded in
        "-1 +5 5.0 0x5 5,5 18446744073709551615 18446744073709551616 9223372036854775808 a \u{665} 5_0"
            .split(' ')
    {
        target.attack(decoded, &chunked(decoded, "", good), &REFUSED);
    }
    for trailer in [
        "x-amz-trailer: x-amz-checksum-crc32\r\n",
        "x-amz-trailer: x-amz-checksum-crc32,x-amz-checksum-crc32\r\n",
        "x-amz-trailer: x-amz-checksum-crc32\r\nx-amz-trailer: x-amz-checksum-sha1\r\n",
        "x-amz-trailer: x-amz-meta-a\r\n",
        "x-amz-trailer: host\r\n",
        "x-amz-decoded-content-length: 5\r\n",
        "x-amz-checksum-crc32: AAAAAA==\r\n",
        "x-amz-checksum-crc32: ?\r\n",
        "x-amz-checksum-xyz: AAAAAA==\r\n",
        "x-amz-sdk-checksum-algorithm: MD5\r\n",
        "Content-MD5: x\r\n",
        "Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n",
    ] {
        target.attack(trailer, &chunked("5", trailer, good), &REFUSED);
    }
    for payload in "STREAMING STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD STREAMING-UNSIGNED-PAYLOAD x 0 \
                    AWS4-HMAC-SHA256-PAYLOAD e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        .split_whitespace()
    {
        let headers = format!("x-amz-content-sha256: {payload}\r\nx-amz-decoded-content-length: 5\r\n");
        target.attack(payload, &sized("PUT", "/bucket/chunks", headers, good), &REFUSED);
    }
    assert_unharmed(&target);
}

/// Queries of listings, and unknown ones.
const QUERIES: &str = "max-keys=-1 max-keys=0 max-keys=1e3 max-keys=2147483648 max-keys=-2147483649 \
    max-keys=99999999999999999999 max-keys max-keys=&max-keys= max-keys=1&max-keys=2 list-type=2&list-type=2 \
    list-type list-type=3 list-type=2&continuation-token list-type=2&continuation-token=%00 \
    list-type=2&continuation-token=YQ&continuation-token=YQ prefix=%ff prefix=%00 prefix=/ prefix=../ \
    delimiter=%ff delimiter=%00 delimiter=aaaa delimiter=&prefix= marker=%f4%8f%bf%bf marker=%ff%ff%ff \
    versions&key-marker=%00 versions&version-id-marker=x uploads&upload-id-marker=x \
    uploads&key-marker=a&upload-id-marker=-1 uploads&key-marker=a&upload-id-marker=ffffffffffffffff \
    encoding-type=URL encoding-type=url&encoding-type=url fetch-owner=TRUE&list-type=2 uploads=1&versions=2&acl=3 \
    X-Amz-Signature=x X-Amz-Algorithm X-Amz-Expires=-1&X-Amz-Signature= Signature=x AWSAccessKeyId=x \
    Expires=x&Signature=y&AWSAccessKeyId=z acl&acl location=&versioning= %61cl a%63l=1 x-id=%ff";

const METHODS: &str = "GET HEAD PUT POST DELETE OPTIONS TRACE CONNECT PATCH COPY UNLINK RELINK REBALANCE";

#[test]
fn queries_of_all_forms_are_answered() {
    let target = target();
    for query in QUERIES.split_whitespace() {
        for path in ["/", "/bucket", "/bucket/none", "/bucket/", "//", "/bucket//", "/bucket%2Fnone", "*", ""]
        {
            for method in METHODS.split(' ') {
                let input = request(method, format!("{path}?{query}"), "", "");
                target.attack(&format!("{method} {path}?{query}"), &input, &ANY);
            }
        }
    }
    let many: String = (0..5000).fold(String::new(), |mut query, n| {
        write!(query, "&a{n}=b").unwrap();
        query
    });
    target.attack("5,000 names", &get(format!("/bucket?list-type=2{many}")), &[200]);
    target.attack("a long prefix", &get(format!("/bucket?prefix={}", "a".repeat(60_000))), &[200]);
    target.attack(
        "a long token",
        &get(format!("/bucket?list-type=2&continuation-token={}", "YQ".repeat(20_000))),
        &[200, 400],
    );
    target.attack("a long delimiter", &get(format!("/bucket?delimiter={}", "/".repeat(60_000))), &[200]);
    assert_unharmed(&target);
}

#[test]
fn headers_of_all_forms_are_answered() {
    let target = target();
    for range in "bytes=0-18446744073709551615 bytes=18446744073709551615- bytes=-18446744073709551615 \
                  bytes=-18446744073709551616 bytes=9223372036854775807-9223372036854775807 bytes=0-0,-1 bytes=- \
                  bytes= bytes bytes=a bytes=0x0- bytes=-0 bytes=--1 bytes=1-0 bytes=+1- bytes=1.5- bytes=0-0, \
                  chars=0-1 BYTES=0-1 =0-1 bytes=\u{660}- bytes=0-1/2"
        .split_whitespace()
    {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let input = request(method, "/bucket/range", format!("Range: {range}\r\nContent-Length: 0\r\n"), "");
            target.attack(&format!("{method} {range}"), &input, &ANY);
        }
        let input = request("GET", "/bucket/victim", format!("Range: {range}\r\n"), "");
        target.attack(range, &input, &[200, 206, 416]);
        let copied = format!("x-amz-copy-source: bucket/victim\r\nx-amz-copy-source-range: {range}\r\n");
        let input = request("PUT", "/bucket/none?partNumber=1&uploadId=0000000000000009", copied, "");
        target.attack(range, &input, &[400, 404, 416]);
    }
    let many = format!("Range: bytes={}0-0\r\n", "0-0,".repeat(10_000));
    target.attack("10,000 ranges", &request("GET", "/bucket/victim", many, ""), &[200]);
    for source in [
        "",
        "/",
        "//",
        "bucket",
        "/bucket/",
        "bucket/victim?versionId=",
        "bucket/victim?versionId=1",
        "bucket/victim?versionId=1&versionId=2",
        "bucket/victim?acl",
        "bucket/none",
        "bucket/%ff",
        "bucket/%00",
        "bucket/%zz",
        "../etc/passwd",
        "http://evil/bucket/victim",
        "arn:aws:s3:us-east-1:1:accesspoint/a/object/b",
        "arn:aws:s3-outposts:us-east-1:1:outpost/a/object/b",
        "arn:::::",
        "\u{e4}/\u{e4}",
        "bucket/victim",
    ] {
        let copied = format!("x-amz-copy-source: {source}\r\n");
        let input = request("PUT", "/bucket/copy", &copied, "");
        let statuses: &[u16] = if source == "bucket/victim" { &[200] } else { &ANY };
        target.attack(&copied, &input, statuses);
        // a copy of the object onto itself
        target.attack(&copied, &request("PUT", "/bucket/victim", &copied, ""), &REFUSED);
    }
    let long = format!("x-amz-copy-source: bucket/{}\r\n", "a".repeat(30_000));
    target.attack("a long source", &request("PUT", "/bucket/copy", long, ""), &REFUSED);
    for header in [
        "If-Match: \"",
        "If-Match: \"a\", \"b\"",
        "If-Match: W/\"a\"",
        "If-Match: *, *",
        "If-None-Match: \"a",
        "If-None-Match: **",
        "If-Modified-Since: x",
        "If-Modified-Since: Thu, 01 Jan 0000 00:00:00 GMT",
        "If-Unmodified-Since: Fri, 31 Dec 9999 23:59:60 GMT",
        "If-Unmodified-Since: Sun, 99 Foo 99999 99:99:99 GMT",
        "If-Match: a\r\nIf-Match: b",
        "x-amz-checksum-mode: x",
        "x-amz-expected-bucket-owner: x",
        "x-amz-request-payer: x",
        "x-amz-server-side-encryption-customer-algorithm: x",
        "x-amz-object-attributes: x",
        "x-amz-bypass-governance-retention: x",
        "x-amz-if-match-size: -1",
        "x-amz-if-match-last-modified-time: x",
        "x-amz-mp-object-size: x",
        "x-amz-optional-object-attributes: x",
        "x-amz-request-route: a\r\nx-amz-request-token: b",
        "Expect: 100-continue",
        "Content-Type: multipart/form-data",
        "Content-Type: multipart/form-data; boundary=",
        "Content-Type: \u{e4}",
        "Content-Encoding: aws-chunked",
        "Content-Encoding: aws-chunked, aws-chunked",
    ] {
        for (method, path, body) in [
            ("GET", "/bucket/victim", ""),
            ("HEAD", "/bucket/victim", ""),
            ("GET", "/bucket", ""),
            ("GET", "/bucket/victim?attributes", ""),
            ("PUT", "/bucket/headers", "value"),
            ("DELETE", "/bucket/headers", ""),
            ("POST", "/bucket?delete", "<Delete><Object><Key>headers</Key></Object></Delete>"),
            ("POST", "/bucket/headers?uploadId=0000000000000009", "<CompleteMultipartUpload/>"),
            ("POST", "/bucket", "--x--"),
        ] {
            let input = sized(method, path, format!("{header}\r\n"), body);
            target.attack(&format!("{method} {path} {header}"), &input, &ANY);
        }
    }
    let much = format!("x-amz-meta-a: {}\r\n", "b".repeat(30_000));
    target.attack("much metadata", &sized("PUT", "/bucket/meta", much, "v"), &[400]);
    let many = (0..50).map(|n| format!("x-amz-meta-{n}: b\r\n")).collect::<Vec<_>>().concat();
    target.attack("many of metadata", &sized("PUT", "/bucket/meta", many, "v"), &[200]);
    assert_unharmed(&target);
}

/// Without credentials, signatures are not verified and may have any form.
#[test]
fn signatures_of_all_forms_are_removed() {
    let target = target();
    for authorization in [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ",
        "AWS4-HMAC-SHA256 Credential=",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e/f/g, SignedHeaders=, Signature=",
        "AWS4-HMAC-SHA256 Credential=////, SignedHeaders=;;;, Signature=x",
        "AWS4-HMAC-SHA256 ,,,,,=,=,=",
        "AWS4-X",
        "AWS :",
        "AWS a",
        "Basic ?",
        "Bearer",
        "\u{e4}",
        "",
    ] {
        for (method, body) in [("GET", ""), ("PUT", "value")] {
            let input = sized(method, "/bucket/signed", format!("Authorization: {authorization}\r\n"), body);
            target.attack(authorization, &input, &[200, 400, 404]);
        }
    }
    for query in [
        "X-Amz-Signature=&X-Amz-Credential=&X-Amz-Date=&X-Amz-Expires=&X-Amz-SignedHeaders=&X-Amz-Algorithm=",
        "X-Amz-Signature=x&X-Amz-Signature=y",
        "x-amz-signature=x",
        "X%2DAmz-Signature=x",
        "&&&X-Amz-Signature&&&",
        "Signature&Expires&AWSAccessKeyId",
        "Signature=%ff&Expires=%00&AWSAccessKeyId=+",
    ] {
        for (method, body) in [("GET", ""), ("PUT", "value"), ("DELETE", "")] {
            let input = sized(method, &format!("/bucket/signed?{query}"), "", body);
            target.attack(query, &input, &[200, 204, 404, 501, 503]);
        }
    }
    assert_unharmed(&target);
}
