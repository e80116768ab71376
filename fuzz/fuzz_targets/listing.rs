//! A volume's listing is parsed the same in pieces of any size.
#![no_main]

use davkv::volume::Listed;
use davkv::volume::listing::{ListingError, Parser};
use libfuzzer_sys::fuzz_target;

/// The entries, and whether the listing is complete.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Listed>, Result<(), ListingError>) {
    let (mut parser, mut found) = (Parser::default(), Vec::new());
    for piece in pieces {
        if let Err(error) = parser.read(piece, |entry| found.push(entry)) {
            return (found, Err(error));
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
