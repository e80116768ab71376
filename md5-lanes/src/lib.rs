//! MD5 (RFC 1321) of one value, or of many at once.
//!
//! MD5 can't be split: each block of 64 bytes needs the sum of the block before, and a core spends most of its time
//! waiting for that. But a vector register holds as many sums as it has lanes, and a block of each lane takes little
//! longer than one block alone. So values that arrive at the same time are hashed together, at several times the
//! speed of one. Which vectors there are is found out at run time; a CPU without any takes one value after the
//! other.
//!
//! MD5 protects against accidents, not against people who want two values to look alike.

mod block;
mod lanes;
#[cfg(test)]
mod tests;

pub use lanes::{MOST_LANES, update_all};

/// Bytes of a block.
const BLOCK: usize = 64;

/// The sum so far: the words A, B, C and D of RFC 1321.
type State = [u32; 4];

/// The MD5 of bytes that arrive piece by piece.
#[derive(Clone, Debug)]
pub struct Md5 {
    state: State,
    /// Bytes so far.
    length: u64,
    /// The beginning of the next block; what is behind it is of earlier blocks.
    rest: [u8; BLOCK],
}

impl Default for Md5 {
    fn default() -> Self {
        Self::new()
    }
}

impl Md5 {
    /// Of no bytes yet.
    #[must_use]
    pub fn new() -> Self {
        Self { state: block::INITIAL, length: 0, rest: [0; BLOCK] }
    }

    /// Takes further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let blocks = self.fill(bytes);
        block::compress(&mut self.state, blocks);
    }

    /// Bytes so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The MD5 of all bytes so far.
    #[must_use]
    pub fn sum(&self) -> [u8; 16] {
        let (bits, rest) = (self.length.wrapping_mul(8), self.rest_length());
        let mut padded = self.clone();
        // a bit of one, zeros, and the length in bits, up to the end of a block (RFC 1321, 3.1 and 3.2)
        let zeros = if rest < 56 { 55 - rest } else { 119 - rest };
        padded.update(&[0x80]);
        padded.update([0; BLOCK].split_at(zeros).0);
        padded.update(&bits.to_le_bytes());
        let mut sum = [0; 16];
        for (bytes, word) in sum.chunks_exact_mut(4).zip(padded.state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        sum
    }

    /// Bytes of a block that isn't whole yet.
    fn rest_length(&self) -> usize {
        usize::try_from(self.length % BLOCK as u64).unwrap_or_default()
    }

    /// Counts these bytes as taken, and returns the whole blocks of them, which the caller is to compress; what
    /// surrounds those is dealt with here.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [[u8; BLOCK]] {
        let begun = self.rest_length();
        self.length = self.length.wrapping_add(bytes.len() as u64);
        let mut bytes = bytes;
        if begun > 0 {
            let (ours, others) = bytes.split_at(bytes.len().min(BLOCK - begun));
            self.keep(begun, ours);
            if begun + ours.len() < BLOCK {
                return &[];
            }
            block::compress(&mut self.state, std::slice::from_ref(&self.rest));
            bytes = others;
        }
        let (blocks, rest) = bytes.as_chunks();
        self.keep(0, rest);
        blocks
    }

    fn keep(&mut self, at: usize, bytes: &[u8]) {
        for (kept, byte) in self.rest.iter_mut().skip(at).zip(bytes) {
            *kept = *byte;
        }
    }
}

/// The MD5 of these bytes.
#[must_use]
pub fn digest(bytes: impl AsRef<[u8]>) -> [u8; 16] {
    let mut md5 = Md5::new();
    md5.update(bytes.as_ref());
    md5.sum()
}
