//! The rounds of RFC 1321, section 3.4, for one value.
#![expect(clippy::indexing_slicing, reason = "the numbers of words and steps are constants")]

use std::hint::black_box;

use super::{BLOCK, State};

/// The sum of nothing.
pub(super) const INITIAL: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The constant of each step: the integer part of 2^32 times the absolute value of the sine of its number.
#[rustfmt::skip]
pub(super) const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// How far each step rotates: four distances in turn, others in each round.
pub(super) const DISTANCES: [[u32; 4]; 4] =
    [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The word of the block that a step takes.
pub(super) const fn word(step: usize) -> usize {
    match step / 16 {
        0 => step,
        1 => (5 * step + 1) % 16,
        2 => (3 * step + 5) % 16,
        _ => 7 * step % 16,
    }
}

/// Calls the macro `$step` for each of the 64 steps, with the words in the roles that they have there and the step's
/// number.
macro_rules! steps {
    ($step:ident, $a:ident, $b:ident, $c:ident, $d:ident) => {
        steps!(@ $step $a $b $c $d: 0 4 8 12 16 20 24 28 32 36 40 44 48 52 56 60)
    };
    (@ $step:ident $a:ident $b:ident $c:ident $d:ident: $($i:literal)*) => {$(
        $step!($a, $b, $c, $d, $i);
        $step!($d, $a, $b, $c, $i + 1);
        $step!($c, $d, $a, $b, $i + 2);
        $step!($b, $c, $d, $a, $i + 3);
    )*};
}
pub(super) use steps;

/// The 16 words of a block.
pub(super) fn words(block: &[u8; BLOCK]) -> [u32; 16] {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// Takes whole blocks into the sum.
///
/// Each step waits for the step before it, so its speed is the length of that chain: what doesn't depend on the step
/// before is added up first. In the second round the two halves of the function have no bit in common, so they can be
/// added one after the other, too (both are known from the tuning of other implementations).
pub(super) fn compress(state: &mut State, blocks: &[[u8; BLOCK]]) {
    // A compiler that knows these adds them last, which makes the chain longer by one: 650 instead of 800 MB/s.
    let sines = black_box(&SINES);
    let [mut a, mut b, mut c, mut d] = *state;
    for block in blocks {
        let words = words(block);
        let before = [a, b, c, d];
        macro_rules! step {
            ($a:ident, $b:ident, $c:ident, $d:ident, $i:expr) => {{
                const ROUND: usize = $i / 16;
                let known = $a.wrapping_add(sines[$i].wrapping_add(words[word($i)]));
                let sum = match ROUND {
                    0 => known.wrapping_add((($c ^ $d) & $b) ^ $d),
                    1 => known.wrapping_add($c & !$d).wrapping_add($b & $d),
                    2 => known.wrapping_add($b ^ ($c ^ $d)),
                    _ => known.wrapping_add($c ^ ($b | !$d)),
                };
                $a = sum.rotate_left(DISTANCES[ROUND][$i % 4]).wrapping_add($b);
            }};
        }
        steps!(step, a, b, c, d);
        a = a.wrapping_add(before[0]);
        b = b.wrapping_add(before[1]);
        c = c.wrapping_add(before[2]);
        d = d.wrapping_add(before[3]);
    }
    *state = [a, b, c, d];
}
