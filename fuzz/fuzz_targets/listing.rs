//! A volume's listing of a directory: what is read of it doesn't depend on the pieces in which it comes.
#![no_main]

use davkv::volume::Listed;
use davkv::volume::listing::{ListingError, Parser};
use libfuzzer_sys::fuzz_target;

/// What was found, and whether that is all.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Listed>, Result<(), ListingError>) {
    let (mut parser, mut found) = (Parser::default(), Vec::new());
    for piece in pieces {
        if let Err(garbled) = parser.read(piece, |entry| found.push(entry)) {
            return (found, Err(garbled));
        }
    }
    (found, parser.end())
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, text) = input;
    let whole = read(std::iter::once(text));
    assert_eq!(read(text.chunks(usize::from(step).max(1))), whole);
    assert_eq!(read(text.chunks(1)), whole);
});
