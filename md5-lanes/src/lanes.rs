//! The same rounds for as many values as a vector register has lanes.
//!
//! Lane by lane is how MD5 is made fast elsewhere too (Gueron and Krasnov, "Simultaneous hashing of multiple
//! messages", 2012). Here the lanes needn't begin or end together: one whose bytes are used up makes room for the
//! next value.
#![expect(
    clippy::indexing_slicing,
    reason = "the numbers of lanes, words and steps are bounded by constants"
)]
#![expect(
    clippy::inline_always,
    reason = "a function that isn't part of its caller doesn't get the caller's vectors"
)]

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, u32x4, u32x8};

use super::block::{DISTANCES, SINES, steps, word, words};
use super::{BLOCK, Md5, State, block};

/// The most values that any vector holds.
pub const MOST_LANES: usize = 16;

/// Has each of the values take its further bytes, as many values at once as the CPU can.
pub fn update_all<'a>(values: impl IntoIterator<Item = (&'a mut Md5, &'a [u8])>) {
    update_all_on(Level::new(), values);
}

/// The same with the vectors of that level.
pub(super) fn update_all_on<'a>(level: Level, values: impl IntoIterator<Item = (&'a mut Md5, &'a [u8])>) {
    let lanes = values.into_iter().map(|(md5, bytes)| {
        let blocks = md5.fill(bytes);
        Lane { state: &mut md5.state, blocks }
    });
    let waiting: Vec<Lane<'_>> = lanes.filter(|lane| !lane.blocks.is_empty()).collect();
    if level.is_fallback() {
        // lanes that are no vectors take longer than one value after the other
        for lane in waiting {
            block::compress(lane.state, lane.blocks);
        }
        return;
    }
    dispatch!(level, simd => all(simd, waiting));
}

/// A value whose blocks are to be taken into its sum.
struct Lane<'a> {
    state: &'a mut State,
    blocks: &'a [[u8; BLOCK]],
}

#[inline(always)]
fn all<S: Simd>(simd: S, mut waiting: Vec<Lane<'_>>) {
    let width = S::u32s::LEN.min(MOST_LANES);
    let mut running: Vec<Lane<'_>> = Vec::with_capacity(width);
    loop {
        let free = waiting.len().saturating_sub(width - running.len());
        running.extend(waiting.drain(free..));
        match running.as_mut_slice() {
            [] => return,
            // one lane alone is slower than one value by itself
            [lane] => {
                block::compress(lane.state, lane.blocks);
                return;
            }
            // the wider the vector, the longer its words take to be put in their places
            lanes if lanes.len() <= 4 => together::<S, u32x4<S>>(simd, lanes),
            lanes if lanes.len() <= 8 => together::<S, u32x8<S>>(simd, lanes),
            lanes => together::<S, S::u32s>(simd, lanes),
        }
        running.retain(|lane| !lane.blocks.is_empty());
    }
}

/// Takes as many blocks of each lane as the shortest has.
#[inline(always)]
fn together<S: Simd, V: SimdInt<S, Element = u32>>(simd: S, lanes: &mut [Lane<'_>]) {
    let count = lanes.iter().map(|lane| lane.blocks.len()).min().unwrap_or_default();
    let mut taken: [&[[u8; BLOCK]]; MOST_LANES] = [&[]; MOST_LANES];
    let mut columns = [[0; MOST_LANES]; 4];
    for (number, lane) in lanes.iter_mut().enumerate() {
        (taken[number], lane.blocks) = lane.blocks.split_at(count);
        for (column, word) in columns.iter_mut().zip(*lane.state) {
            column[number] = word;
        }
    }
    let vector = |column: &[u32; MOST_LANES]| V::from_slice(simd, &column[..V::LEN]);
    let (mut a, mut b) = (vector(&columns[0]), vector(&columns[1]));
    let (mut c, mut d) = (vector(&columns[2]), vector(&columns[3]));
    for number in 0..count {
        let words: [V; 16] = transposed(simd, &taken, number);
        let before = (a, b, c, d);
        macro_rules! step {
            ($a:ident, $b:ident, $c:ident, $d:ident, $i:expr) => {{
                const ROUND: usize = $i / 16;
                const DISTANCE: u32 = DISTANCES[ROUND][$i % 4];
                let mixed = match ROUND {
                    0 => (($c ^ $d) & $b) ^ $d,
                    1 => (($b ^ $c) & $d) ^ $c,
                    2 => $b ^ $c ^ $d,
                    _ => $c ^ ($b | !$d),
                };
                let sum = $a + words[word($i)] + SINES[$i] + mixed;
                $a = ((sum << DISTANCE) | (sum >> (32 - DISTANCE))) + $b;
            }};
        }
        steps!(step, a, b, c, d);
        (a, b, c, d) = (a + before.0, b + before.1, c + before.2, d + before.3);
    }
    for (column, vector) in columns.iter_mut().zip([a, b, c, d]) {
        vector.store_slice(&mut column[..V::LEN]);
    }
    for (number, lane) in lanes.iter_mut().enumerate() {
        *lane.state = columns.map(|column| column[number]);
    }
}

/// The 16 words of the lanes' blocks of that number: of each word a vector, which has a lane for each value. A lane
/// without a value has zeros.
#[inline(always)]
fn transposed<S: Simd, V: SimdInt<S, Element = u32>>(
    simd: S,
    lanes: &[&[[u8; BLOCK]]; MOST_LANES],
    number: usize,
) -> [V; 16] {
    let width = V::LEN;
    let mut out = [V::splat(simd, 0); 16];
    // the vectors of a width of words at a time
    for part in 0..16 / width {
        let mut square = [V::splat(simd, 0); MOST_LANES];
        for (row, lane) in square.iter_mut().zip(lanes).take(width) {
            if let Some(block) = lane.get(number) {
                *row = V::from_slice(simd, &words(block)[part * width..][..width]);
            }
        }
        // Interleaving the rows of one half with those of the other halves how far apart the words of a lane are
        // (a perfect shuffle): after as many times as the width has bits, rows are columns.
        for _ in 0..width.ilog2() {
            let halves = square;
            for row in 0..width / 2 {
                (square[2 * row], square[2 * row + 1]) = halves[row].interleave(halves[row + width / 2]);
            }
        }
        out[part * width..][..width].copy_from_slice(&square[..width]);
    }
    out
}
