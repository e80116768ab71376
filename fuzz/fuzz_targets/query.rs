//! The parts of a request's target can be formatted again after parsing, with the same meaning.
#![no_main]

use davkv::native::query::Query;
use davkv::key::Key;
use davkv::record::State;
use davkv::wire::target::percent_decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(bytes) = percent_decode(text) {
        let escapes = text.matches('%').count();
        assert_eq!(bytes.len() + 2 * escapes, text.len());
        assert_eq!(percent_decode(&Key::new(&bytes).to_string()), Ok(bytes));
    }
    if let Ok(query) = Query::parse(text) {
        let state = if query.state == State::Live { "list" } else { "unlinked" };
        let again = format!("limit={}&start={}&{state}", query.limit, Key::new(&query.start));
        assert_eq!(Query::parse(&again), Ok(query));
    }
});
