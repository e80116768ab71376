//! Values that are hashed at once, in pieces, have the sums that somebody else's MD5 gives each of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use md5::{Digest as _, Md5 as Other};
use md5_lanes::{Md5, update_all};

/// At most so many values: more than any vector has lanes.
const VALUES: usize = 20;

fuzz_target!(|rounds: Vec<Vec<&[u8]>>| {
    let mut sums = vec![Md5::new(); VALUES];
    let mut values = vec![Vec::new(); VALUES];
    for pieces in &rounds {
        update_all(sums.iter_mut().zip(pieces.iter().copied()));
        for (value, piece) in values.iter_mut().zip(pieces) {
            value.extend_from_slice(piece);
        }
    }
    for (sum, value) in sums.iter().zip(&values) {
        assert_eq!(sum.sum(), <[u8; 16]>::from(Other::digest(value)));
    }
});
