//! Properties of all bodies.

use hyper::HeaderMap;
use hyper::header::HeaderName;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::*;
use super::rig::*;
use crate::s3::checksum::Algorithm;

proptest! {
    #[test]
    fn a_value_in_chunks_is_the_same_for_any_split_of_the_body(upload in uploads(), places in vec(any::<Index>(), 0..20)) {
        let read = read(cut(&upload.body(), &places), upload.announced(), upload.signer());
        prop_assert_eq!(read.whole(), Some(&upload.value[..]));
        prop_assert_eq!(read.outcome, Ok(upload.sums()));
    }

    #[test]
    fn a_value_without_chunks_is_the_same_for_any_split_of_the_body(
        value in vec(any::<u8>(), 1..300),
        flip: Option<Index>,
        is_length_known: bool,
        places in vec(any::<Index>(), 0..20),
    ) {
        let sums = Algorithm::ALL.map(|algorithm| sum(algorithm, &value));
        let texts = sums.clone().map(|sum| (sum.algorithm.header(), sum.base64()));
        let headers = headers(&texts.each_ref().map(|(name, value)| (*name, value.as_str())));
        let announced = Announced::read(&headers, is_length_known.then_some(value.len() as u64)).unwrap();
        let mut body = value.clone();
        if let Some(at) = flip {
            body[at.index(value.len())] ^= 1;
        }
        let read = read(cut(&body, &places), announced, None);
        prop_assert_eq!(read.whole(), flip.is_none().then_some(&value[..]));
        if let Ok(mut told) = read.outcome {
            told.sort_by_key(|sum| Algorithm::ALL.iter().position(|algorithm| *algorithm == sum.algorithm));
            prop_assert_eq!(told, sums);
        } else if is_length_known {
            prop_assert!(read.data.len() < value.len(), "the last bytes weren't held back");
        }
    }

    #[test]
    fn a_body_that_is_cut_short_is_not_whole(upload in uploads(), end: Index, places in vec(any::<Index>(), 0..4)) {
        let body = upload.body();
        let end = end.index(body.len());
        let read = read(cut(&body[..end], &places), upload.announced(), upload.signer());
        if let Some(value) = read.whole() {
            // line ends at the end don't matter
            prop_assert_eq!(value, &upload.value[..]);
            prop_assert_eq!(&read.outcome, &Ok(upload.sums()));
            prop_assert!(body[end..].trim_ascii().is_empty());
        } else if !upload.value.is_empty() {
            prop_assert!(read.data.len() < upload.value.len(), "the last bytes weren't held back");
        }
    }

    #[test]
    fn a_body_that_was_changed_is_not_whole(
        mut upload in uploads(),
        at: Index,
        change in 0..3,
        byte: u8,
        places in vec(any::<Index>(), 0..4),
    ) {
        if !upload.signed && upload.trailers.is_empty() {
            upload.trailers.push(Algorithm::Crc32);
        }
        let mut body = upload.body();
        let at = at.index(body.len());
        match change {
            0 => body[at] = byte,
            1 => body.insert(at, byte),
            _ => drop(body.remove(at)),
        }
        let read = read(cut(&body, &places), upload.announced(), upload.signer());
        if let Some(value) = read.whole() {
            prop_assert_eq!(value, &upload.value[..]);
            prop_assert_eq!(&read.outcome, &Ok(upload.sums()));
        } else if !upload.value.is_empty() {
            prop_assert!(read.data.len() < upload.value.len(), "the last bytes weren't held back");
        }
    }

    #[test]
    fn no_bytes_panic_and_any_split_gives_the_same_result(
        words in vec(select(vec![
            "", "0", "1", "a", "B", "10", "ffffffffffffffff", "\r\n", "\r\n", "\r", "\n", ";", ":", "x", "\u{e9}",
            ";chunk-signature=", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "x-amz-checksum-crc32:", "AAAAAA==", "x-amz-trailer-signature:",
        ]), 0..30),
        upload in uploads(),
        places in vec(any::<Index>(), 0..20),
    ) {
        let body = words.concat();
        let whole = read(cut(body.as_bytes(), &[]), upload.announced(), upload.signer());
        let pieces = read(cut(body.as_bytes(), &places), upload.announced(), upload.signer());
        prop_assert_eq!(&pieces.ended, &whole.ended);
        prop_assert_eq!(whole.whole(), pieces.whole());
        prop_assert_eq!(&pieces.outcome, &whole.outcome);
    }

    #[test]
    fn no_headers_panic(
        values in vec((select(vec![
            "authorization", "content-encoding", "content-md5", "x-amz-checksum-crc32", "x-amz-checksum-algorithm",
            "x-amz-content-sha256", "x-amz-date", "x-amz-decoded-content-length", "x-amz-trailer",
        ]), vec(any::<u8>(), 0..100)), 0..9),
        length: Option<u64>,
    ) {
        let values = values.into_iter().filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), hyper::header::HeaderValue::from_bytes(&value).ok()?))
        });
        let headers: HeaderMap = values.collect();
        drop(Announced::read(&headers, length));
        drop(ChunkSigner::new(SECRET, &headers));
    }
}
