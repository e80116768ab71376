use md5::{Digest as _, Md5 as Other};
use proptest::collection::vec;
use proptest::prelude::*;

use fearless_simd::{Level, Simd};

use super::lanes::update_all_on;
use super::{Md5, digest, update_all};

fn hex(sum: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(sum))
}

/// The test suite of RFC 1321, A.5.
#[test]
fn sums_are_those_of_the_rfc() {
    let digits = "12345678901234567890123456789012345678901234567890123456789012345678901234567890";
    for (text, sum) in [
        ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
        (
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "d174ab98d277d9f5a5611c2c9f419d9f",
        ),
        (digits, "57edf4a22be3c955ac49da2e2107b67a"),
    ] {
        assert_eq!(hex(digest(text)), sum, "{text}");
    }
}

/// Every length around the ends of a block, where the padding takes one block or two.
#[test]
fn every_length_up_to_three_blocks_is_right() {
    let bytes: Vec<u8> = (0..192).collect();
    for length in 0..=bytes.len() {
        let value = bytes.split_at(length).0;
        assert_eq!(digest(value), <[u8; 16]>::from(Other::digest(value)), "{length} bytes");
    }
}

/// Values, each in pieces, of all lengths that matter: less than a block, whole ones, and many.
fn values() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let length = prop_oneof![0..3usize, 60..70usize, Just(64), Just(128), 0..5000usize];
    let piece = (length, any::<u8>()).prop_map(|(length, seed)| {
        (0..length).map(|at| seed.wrapping_mul(31).wrapping_add(at.to_le_bytes()[0])).collect()
    });
    vec(vec(piece, 0..6), 0..40)
}

fn levels() -> Vec<Level> {
    let best = Level::new();
    let mut levels = vec![best];
    #[cfg(target_arch = "x86_64")]
    {
        levels.extend(best.as_sse2().map(Simd::level));
        levels.extend(best.as_avx2().map(Simd::level));
    }
    levels
}

proptest! {
    /// Also with vectors that are narrower than the widest of this CPU.
    #[test]
    fn vectors_of_every_width_give_the_same(values in values()) {
        let values: Vec<Vec<u8>> = values.iter().map(|pieces| pieces.concat()).collect();
        for level in levels() {
            let mut sums = vec![Md5::new(); values.len()];
            update_all_on(level, sums.iter_mut().zip(values.iter().map(Vec::as_slice)));
            for (sum, value) in sums.into_iter().zip(&values) {
                prop_assert_eq!(sum.sum(), <[u8; 16]>::from(Other::digest(value)), "{:?}", level);
            }
        }
    }

    #[test]
    fn lanes_and_pieces_change_no_sum(values in values()) {
        let mut sums = vec![Md5::new(); values.len()];
        for turn in 0..6 {
            let pieces = values.iter().map(|pieces| pieces.get(turn).map_or(&[][..], Vec::as_slice));
            update_all(sums.iter_mut().zip(pieces));
        }
        for (sum, pieces) in sums.into_iter().zip(&values) {
            let whole = pieces.concat();
            let mut alone = Md5::new();
            for piece in pieces {
                alone.update(piece);
            }
            let expected = <[u8; 16]>::from(Other::digest(&whole));
            prop_assert_eq!(sum.sum(), expected);
            prop_assert_eq!(alone.sum(), expected);
            prop_assert_eq!(digest(&whole), expected);
        }
    }
}
