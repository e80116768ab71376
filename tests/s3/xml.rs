//! The subset of XML that the answers use: elements without attributes, and text.

/// The content of the first element of that name, not unescaped.
pub(crate) fn inner<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    all_inner(xml, name).first().copied()
}

/// The contents of all elements of that name, which must not be nested.
pub(crate) fn all_inner<'x>(xml: &'x str, name: &str) -> Vec<&'x str> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let pieces = xml.split(&begin).skip(1);
    pieces.map(|piece| piece.split_once(&end).unwrap_or_else(|| panic!("no {end} in {xml}")).0).collect()
}

/// The text of the first element of that name.
pub(crate) fn text(xml: &str, name: &str) -> Option<String> {
    inner(xml, name).map(unescape)
}

/// The texts of all elements of that name.
pub(crate) fn texts(xml: &str, name: &str) -> Vec<String> {
    all_inner(xml, name).into_iter().map(unescape).collect()
}

fn unescape(text: &str) -> String {
    assert!(!text.contains('<'), "not only text: {text}");
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, char)| text.replace(entity, char))
}

/// Escapes text for an element.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
