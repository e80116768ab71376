//! Random mutations of valid requests.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::Random;
use crate::target::{Target, by_all_clients};

/// The number of inputs, unless `DAVKV_INPUTS` sets it.
const INPUTS: usize = 4000;

/// The number of inputs between two checks that others are served.
const BETWEEN: usize = 1000;

const SEEDS: [&[u8]; 16] = [
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nvalue",
    b"PUT /a/b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-MD5: IGPBYI1uC6+AJJxC4r5YBA==\r\n\r\nvalue",
    b"PUT /%61%C3%BF HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nvalue",
    b"PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nvalue\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n",
    b"DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"UNLINK /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"RELINK /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"REBALANCE /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?list HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a?list&start=/a/b&limit=10 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?unlinked&limit=2&start=%2fa HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes=0-1\r\n\r\n",
    b"PUT /d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /d HTTP/1.1\r\nHost: x\r\n\r\nDELETE /d HTTP/1.1\r\nHost: x\r\n\r\n",
];

/// Byte sequences with a meaning somewhere in HTTP, S3 or the master.
const TOKENS: [&[u8]; 44] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"%",
    b"%00",
    b"%0d%0a",
    b"%2f",
    b"%ff",
    b"%zz",
    b"/",
    b"../",
    b"?",
    b"&",
    b"=",
    b"#",
    b"+",
    b"-",
    b"~",
    b",",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3\xbf",
    b"0",
    b"ffffffffffffffff",
    b"18446744073709551616",
    b"-1",
    b";",
    b"Host: y\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 9\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"GET /victim HTTP/1.1\r\nHost: x\r\n\r\n",
    b" HTTP/1.0",
    b"0\r\n\r\n",
];

fn below(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap()
}

/// A range of the input; short ranges are more likely.
fn range(random: &mut Random, input: &[u8]) -> std::ops::Range<usize> {
    let start = below(random, input.len() + 1);
    let longest = (input.len() - start).min(1 << random.below(8));
    start..start + below(random, longest + 1)
}

fn mutated(random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(&SEEDS).to_vec();
    for _ in 0..random.below(5) {
        let at = range(random, &input);
        match random.below(9) {
            0 | 1 if !at.is_empty() => input[at.start] ^= 1 << random.below(8),
            2 if !at.is_empty() => input[at.start] = random.next().to_le_bytes()[0],
            3 => drop(input.drain(at)),
            4 => {
                let copy = input[at.clone()].repeat(1 + below(random, 4));
                input.splice(at.end..at.end, copy);
            }
            5 => {
                let other = random.pick(&SEEDS);
                input.splice(at, other[range(random, other)].iter().copied());
            }
            6 => input.truncate(at.end),
            _ => {
                let times = if random.below(50) == 0 { 3000 } else { 1 };
                input.splice(at, random.pick(&TOKENS).repeat(times));
            }
        }
    }
    input
}

#[test]
fn mutated_requests_do_no_harm() {
    let inputs = std::env::var("DAVKV_INPUTS").map_or(INPUTS, |inputs| inputs.parse().unwrap());
    let seed = Random::seeded().next();
    let target = Target::new(&[]);
    let next = AtomicUsize::new(0);
    by_all_clients(|| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= inputs {
                return;
            }
            // depends only on the input's number, not on the thread that sends it
            let mut random = Random(Random(seed ^ number as u64).next());
            let input = mutated(&mut random);
            target.send(&format!("input {number}"), &input);
            if number.is_multiple_of(BETWEEN) {
                target.still_serves(&format!("about {number} inputs"));
            }
        }
    });
    target.assert_unharmed();
}
