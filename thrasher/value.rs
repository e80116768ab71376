//! The keys and values of a run: pseudo-random, and the same for the same seed.
//!
//! Nothing is stored: the n-th key is a function of the seed and n, each byte of its value a function
//! of the key and the byte's offset. So a value of any size is written and compared in small pieces.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use davkv::key::Key;

/// An odd number near 2^64 divided by the golden ratio, as `SplitMix64` steps by.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bytes that are generated and sent at a time.
const CHUNK_BYTES: u64 = 64 << 10;
/// Bytes that are generated and compared at a time.
const COMPARED_BYTES: usize = 4 << 10;
/// Bytes of a word of the generator.
const WORD_BYTES: u64 = 8;

/// A number of bytes, at least one, as people type it: `16`, `4KiB`, `1MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) key: Key,
    pub(crate) value: Value,
}

/// The bytes of a value. Each can be computed at any time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    seed: u64,
    pub(crate) size: u64,
}

impl Item {
    /// The n-th item of a run. The keys of one run are distinct: the number in the key is a bijection
    /// of n.
    pub(crate) fn new(prefix: &str, seed: u64, n: u64, size: Size) -> Self {
        let number = word(seed, n);
        let key = Key::new(format!("{prefix}{number}").as_bytes());
        Self { key, value: Value { seed: word(number, seed), size: size.0 } }
    }

    /// Picks one of several, always the same one for the same item.
    pub(crate) fn pick<'a, T>(&self, among: &'a [T]) -> Option<&'a T> {
        let number = self.value.seed.checked_rem(among.len() as u64)?;
        usize::try_from(number).ok().and_then(|number| among.get(number))
    }
}

impl Value {
    /// The bytes of the value from an offset on, up to a limit; none at its end.
    pub(crate) fn chunk(&self, offset: u64) -> Bytes {
        let bytes = self.size.saturating_sub(offset).min(CHUNK_BYTES);
        let mut chunk = vec![0; usize::try_from(bytes).unwrap_or(0)];
        self.fill(offset, &mut chunk);
        chunk.into()
    }

    /// The offset of the first of these bytes that isn't the value's; `None` when all are.
    pub(crate) fn first_difference(&self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let mut buffer = [0; COMPARED_BYTES];
        let mut at = offset;
        for got in bytes.chunks(COMPARED_BYTES) {
            let (expected, _) = buffer.split_at_mut(got.len());
            self.fill(at, expected);
            if expected != got {
                let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
                return Some(at + same as u64);
            }
            at += got.len() as u64;
        }
        (at > self.size).then_some(self.size)
    }

    /// Fills `out` with the bytes from an offset on: the little-endian words of the generator, of
    /// which the first and the last may be cut.
    fn fill(&self, offset: u64, out: &mut [u8]) {
        let mut words = (offset / WORD_BYTES..).map(|n| word(self.seed, n).to_le_bytes());
        let skipped = usize::try_from(offset % WORD_BYTES).unwrap_or(0);
        let cut = if skipped == 0 { 0 } else { out.len().min(8 - skipped) };
        let (first, rest) = out.split_at_mut(cut);
        if cut > 0 {
            let word = words.next().unwrap_or_default();
            first.iter_mut().zip(word.iter().skip(skipped)).for_each(|(to, from)| *to = *from);
        }
        let (whole, last) = rest.as_chunks_mut();
        // `whole` is the left side: zip asks it first, so that no word is lost when it ends
        whole.iter_mut().zip(&mut words).for_each(|(to, word)| *to = word);
        let word = words.next().unwrap_or_default();
        last.iter_mut().zip(word).for_each(|(to, from)| *to = from);
    }
}

/// The n-th word of the generator with that seed: `SplitMix64`, which can start anywhere.
fn word(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(STEP));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let shift = match unit {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err("a size is a number of bytes, KiB, MiB or GiB, like 4KiB".to_owned()),
        };
        match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)) {
            Some(bytes) if (1..=1 << 50).contains(&bytes) => Ok(Self(bytes)),
            _ => Err("a size is at least 1 byte and at most 1 PiB".to_owned()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.iter().find(|(shift, _)| self.0.trailing_zeros() >= *shift) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Option<u64> {
        text.parse::<Size>().ok().map(|size| size.0)
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("16"), Some(16));
        assert_eq!(size("16B"), Some(16));
        assert_eq!(size("4KiB"), Some(4096));
        assert_eq!(size("1MiB"), Some(1 << 20));
        assert_eq!(size("1GiB"), Some(1 << 30));
        for wrong in ["", "0", "-1", "KiB", "4 KiB", "4kb", "1.5MiB", "+4", "99999999999GiB", "4KiB4"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        for text in ["16 bytes", "4KiB", "3MiB", "1GiB", "1025 bytes"] {
            assert_eq!(Size(size(text.trim_end_matches(" bytes")).unwrap_or(0)).to_string(), text);
        }
    }

    #[test]
    fn a_value_is_the_same_however_it_is_cut() {
        let value = Value { seed: 7, size: 100 };
        let whole = value.chunk(0);
        assert_eq!(whole.len(), 100);
        for from in 0..100 {
            for to in from..=100 {
                let expected = whole.slice(from..to);
                let mut part = vec![0; to - from];
                value.fill(from as u64, &mut part);
                assert_eq!(part, expected, "{from}..{to}");
            }
            assert_eq!(value.chunk(from as u64), whole.slice(from..));
        }
        assert!(value.chunk(100).is_empty());
    }

    #[test]
    fn chunks_make_up_the_whole_value() {
        let value = Value { seed: 7, size: 3 * CHUNK_BYTES + 5 };
        let mut offset = 0;
        while offset < value.size {
            let chunk = value.chunk(offset);
            assert!(!chunk.is_empty());
            assert_eq!(value.first_difference(offset, &chunk), None);
            offset += chunk.len() as u64;
        }
        assert_eq!(offset, value.size);
    }

    #[test]
    fn the_first_wrong_byte_is_found() {
        let value = Value { seed: 7, size: 10_000 };
        let mut bytes = value.chunk(0).to_vec();
        assert_eq!(value.first_difference(0, &bytes), None);
        bytes.push(0);
        assert_eq!(value.first_difference(0, &bytes), Some(10_000), "one byte too many");
        if let Some(byte) = bytes.get_mut(9_000) {
            *byte ^= 1;
        }
        assert_eq!(value.first_difference(0, &bytes), Some(9_000));
    }

    #[test]
    fn items_depend_on_the_seed_and_the_number() {
        let item = |seed, n| {
            let item = Item::new("/benchmark-", seed, n, Size(16));
            (item.key.to_string(), item.value.chunk(0))
        };
        assert_eq!(item(1, 2), item(1, 2));
        assert!(item(1, 2).0.starts_with("/benchmark-"));
        for (other_seed, other_n) in [(1, 3), (2, 2)] {
            assert_ne!(item(1, 2).0, item(other_seed, other_n).0);
            assert_ne!(item(1, 2).1, item(other_seed, other_n).1);
        }
    }
}
