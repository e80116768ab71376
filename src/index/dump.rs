//! Dumps: the whole index at one moment, as a stream of bytes.
//!
//! ```text
//! "davkv index dump 1\n"  taken: 8  rows × (01  length: 4  row  length: 4  value)  00  rows: 8  md5: 16
//! ```
//!
//! Integers are big-endian. `taken` is in seconds since 1970, the rows are those of the index in their order
//! and their form (records are in whatever version the index has them, see [`crate::record`]), and the MD5 is that of all bytes before it: a dump that was cut short or
//! damaged has no end that fits. Nothing comes after it.
//!
//! The master serves on while a dump is written from one snapshot. Intents of attempts that were under way at
//! that moment are left out: the snapshot doesn't know their outcome, and an intent dooms its files, while a
//! rebuild can see on the volumes which files are whole. So a dump holds those intents of the snapshot that are
//! closed, and that the index still has when their row is written.

use std::fmt;
use std::io::{ErrorKind, Read};

use md5_lanes::Md5;

use super::error::IndexError;

const MAGIC: &[u8] = b"davkv index dump 1\n";

const ROW: u8 = 1;
const END: u8 = 0;

/// The longest row and the longest value that are believed, in bytes: none that we write comes near.
pub(super) const MAX_BYTES: usize = 16 << 20;

/// Writes the form.
pub(super) struct Writer {
    /// Of what was written.
    md5: Md5,
    rows: u64,
}

impl Writer {
    /// Also what a dump begins with.
    pub(super) fn begin(taken: u64) -> (Self, Vec<u8>) {
        let (mut writer, mut out) = (Self { md5: Md5::new(), rows: 0 }, Vec::new());
        writer.put(&[MAGIC, &taken.to_be_bytes()], &mut out);
        (writer, out)
    }

    pub(super) fn row(&mut self, row: &[u8], value: &[u8], out: &mut Vec<u8>) {
        self.rows += 1;
        self.put(&[&[ROW], &length(row), row, &length(value), value], out);
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        self.put(&[&[END], &self.rows.to_be_bytes()], out);
        out.extend(self.md5.sum());
    }

    fn put(&mut self, pieces: &[&[u8]], out: &mut Vec<u8>) {
        for piece in pieces {
            self.md5.update(piece);
            out.extend_from_slice(piece);
        }
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len())
        .unwrap_or_else(|_| unreachable!("{} bytes in a row", bytes.len()))
        .to_be_bytes()
}

/// Why bytes are no whole dump.
#[derive(Debug)]
pub enum DumpError {
    /// They begin otherwise.
    NoDump,
    /// They end before the dump does.
    CutShort,
    /// They aren't what was written; says what shows it.
    Damaged(&'static str),
    /// They can't be read.
    Unreadable(std::io::Error),
    /// They can't be stored.
    Unstored(IndexError),
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDump => f.write_str("it is no dump of an index that this program knows"),
            Self::CutShort => f.write_str("it is cut short"),
            Self::Damaged(what) => write!(f, "it is damaged: {what}"),
            Self::Unreadable(error) => error.fmt(f),
            Self::Unstored(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for DumpError {}

impl From<IndexError> for DumpError {
    fn from(failure: IndexError) -> Self {
        Self::Unstored(failure)
    }
}

/// Hands over the rows of a dump, of which none counts before the end was reached, and tells when it was taken.
pub(super) fn read(
    dump: impl Read,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), DumpError>,
) -> Result<u64, DumpError> {
    let mut reader = Reader { dump, md5: Md5::new() };
    match reader.bytes(MAGIC.len()) {
        Ok(magic) if magic == MAGIC => {}
        Err(flaw @ DumpError::Unreadable(_)) => return Err(flaw),
        _ => return Err(DumpError::NoDump),
    }
    let taken = u64::from_be_bytes(reader.array()?);
    let mut rows: u64 = 0;
    loop {
        match reader.array()? {
            [ROW] => {
                let (row, value) = (reader.counted()?, reader.counted()?);
                take(&row, &value)?;
                rows += 1;
            }
            [END] => break,
            _ => return Err(DumpError::Damaged("there is something else between its rows")),
        }
    }
    if u64::from_be_bytes(reader.array()?) != rows {
        return Err(DumpError::Damaged("it hasn't as many rows as it says"));
    }
    let md5 = reader.md5.sum();
    if reader.array()? != md5 {
        return Err(DumpError::Damaged("it hasn't the MD5 that it says"));
    }
    match reader.array::<1>() {
        Err(DumpError::CutShort) => Ok(taken),
        Err(flaw) => Err(flaw),
        Ok(_) => Err(DumpError::Damaged("something comes after its end")),
    }
}

/// Reads the form.
struct Reader<R> {
    dump: R,
    /// Of what was read.
    md5: Md5,
}

impl<R: Read> Reader<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DumpError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn counted(&mut self) -> Result<Vec<u8>, DumpError> {
        let length = usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX);
        if length > MAX_BYTES {
            return Err(DumpError::Damaged("a row is too long"));
        }
        self.bytes(length)
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, DumpError> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), DumpError> {
        self.dump.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => DumpError::CutShort,
            _ => DumpError::Unreadable(error),
        })?;
        self.md5.update(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Rows = Vec<(Vec<u8>, Vec<u8>)>;

    fn written(taken: u64, rows: &Rows) -> Vec<u8> {
        let (mut writer, mut out) = Writer::begin(taken);
        for (row, value) in rows {
            writer.row(row, value, &mut out);
        }
        writer.end(&mut out);
        out
    }

    fn read_all(dump: &[u8]) -> Result<(u64, Rows), DumpError> {
        let mut rows = Rows::new();
        let taken = read(dump, |row, value| {
            rows.push((row.to_vec(), value.to_vec()));
            Ok(())
        })?;
        Ok((taken, rows))
    }

    fn rows() -> impl Strategy<Value = Rows> {
        vec((vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..200)), 0..20)
    }

    /// A dump outlives the program that wrote it.
    #[test]
    fn the_form_is_pinned() {
        let rows = vec![(b"/a".to_vec(), b"1".to_vec()), (b"/b".to_vec(), Vec::new())];
        let mut expected = b"davkv index dump 1\n\0\0\0\0\0\0\x01\x02\
            \x01\0\0\0\x02/a\0\0\0\x011\
            \x01\0\0\0\x02/b\0\0\0\0\
            \0\0\0\0\0\0\0\0\x02"
            .to_vec();
        expected.extend(md5_lanes::digest(&expected));
        assert_eq!(written(258, &rows), expected);
        assert_eq!(read_all(&expected).unwrap(), (258, rows));
    }

    proptest! {
        #[test]
        fn dump_and_back(taken: u64, rows in rows()) {
            prop_assert_eq!(read_all(&written(taken, &rows)).unwrap(), (taken, rows));
        }

        #[test]
        fn no_part_of_a_dump_is_one(rows in rows(), end: prop::sample::Index) {
            let dump = written(7, &rows);
            prop_assert!(read_all(&dump[..end.index(dump.len())]).is_err());
        }

        #[test]
        fn no_dump_with_another_bit_is_one(rows in rows(), at: prop::sample::Index, bit in 0..8_u8) {
            let mut dump = written(7, &rows);
            let at = at.index(dump.len());
            dump[at] ^= 1 << bit;
            prop_assert!(read_all(&dump).is_err());
        }

        #[test]
        fn nothing_comes_after_a_dump(rows in rows(), tail in vec(any::<u8>(), 1..40)) {
            let dump = [written(7, &rows), tail].concat();
            prop_assert!(read_all(&dump).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            drop(read_all(&bytes));
            drop(read_all(&[MAGIC, &bytes].concat()));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let dump = written(7, &vec![(b"/a".to_vec(), b"1".to_vec())]);
        let said = |dump: &[u8]| read_all(dump).unwrap_err().to_string();
        assert_eq!(said(b""), "it is no dump of an index that this program knows");
        assert_eq!(said(b"davkv index dump 2\n"), "it is no dump of an index that this program knows");
        assert_eq!(said(&dump[..dump.len() - 1]), "it is cut short");
        assert_eq!(said(&[&dump, b"\n".as_slice()].concat()), "it is damaged: something comes after its end");
    }

    /// No memory is asked for that the file doesn't have.
    #[test]
    fn a_row_of_four_gigabytes_is_not_believed() {
        let dump = [MAGIC, &[0; 8], &[ROW], &[0xff; 4]].concat();
        assert_eq!(read_all(&dump).unwrap_err().to_string(), "it is damaged: a row is too long");
    }
}
