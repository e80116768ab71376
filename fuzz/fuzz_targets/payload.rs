//! The body of an S3 upload is read the same in pieces of any size, and a complete value has the announced length.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// The tested parts of the S3 API, included by path because they aren't public.
#[path = "../../src/s3"]
#[allow(dead_code, reason = "the rest of the S3 API isn't here")]
mod s3 {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::slice::Chunks;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use http_body::{Body, Frame};
    use hyper::HeaderMap;
    use hyper::header::{HeaderName, HeaderValue};

    mod checksum;
    mod payload;
    mod signature;

    /// A body that comes in pieces.
    struct Pieces<'b>(Chunks<'b, u8>);

    impl Body for Pieces<'_> {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))))
        }
    }

    /// Reads a body in pieces of `step` bytes, described by lines of headers: the value, or the error.
    pub(super) fn read(headers: &str, body: &[u8], step: usize) -> Result<Vec<u8>, String> {
        let pairs = headers.lines().filter_map(|line| line.split_once(": "));
        let headers: HeaderMap = pairs
            .filter_map(|(name, value)| {
                Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
            })
            .collect();
        let announced = payload::Announced::read(&headers, None).map_err(|wrong| wrong.to_string())?;
        let (length, signer) = (announced.length, signature::ChunkSigner::new("secret", &headers).ok());
        let (mut payload, outcome) = payload::Payload::new(Pieces(body.chunks(step)), announced, signer);
        let (mut value, mut context) = (Vec::new(), Context::from_waker(Waker::noop()));
        while let Poll::Ready(Some(frame)) = Pin::new(&mut payload).poll_frame(&mut context) {
            match frame {
                Ok(frame) => value.extend(frame.into_data().expect("data alone")),
                Err(broken) => {
                    assert_eq!(outcome.finish().expect_err("it is broken").to_string(), broken.to_string());
                    assert!(length.is_none_or(|length| length == 0 || (value.len() as u64) < length));
                    return Err(broken.to_string());
                }
            }
        }
        outcome.finish().expect("it has ended");
        assert!(length.is_none_or(|length| length == value.len() as u64));
        Ok(value)
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, request) = input;
    let head = request.windows(2).position(|ends| ends == b"\n\n").unwrap_or(request.len());
    let (head, body) = request.split_at(head);
    let (headers, body) = (String::from_utf8_lossy(head), body.get(2..).unwrap_or_default());
    let whole = s3::read(&headers, body, body.len().max(1));
    assert_eq!(s3::read(&headers, body, usize::from(step).max(1)), whole);
    assert_eq!(s3::read(&headers, body, 1), whole);
});
