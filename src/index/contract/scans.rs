//! Scans: every row once, and in order, however many pages it takes.

use super::{always, done, intent, named, on_every_engine, record, surplus};
use crate::index::Listed;
use crate::index::fold::{Folded, Item};
use crate::key::Key;
use crate::record::State;

#[tokio::test]
async fn pages_hold_every_key_of_a_state_under_a_prefix_once_and_in_order() {
    on_every_engine(async |index| {
        let keys: Vec<Key> =
            ["/a/1", "/a/2/x", "/a/2/y", "/a/3", "/b"].map(|key| Key::new(key.as_bytes())).into();
        for (id, key) in (1..).zip(&keys) {
            let value = record(&[named("a:1", id)]);
            done(index.begin(key, intent(id, &value.replicas), always()).await.unwrap());
            done(index.take_effect(key, id, value, always(), surplus(100)).await.unwrap());
        }
        done(index.set_state(&keys[3], State::Unlinked).await.unwrap());
        let mut found = Vec::new();
        let mut start = Vec::new();
        loop {
            let page = index.page(b"/a/", &start, Some(State::Live)).await.unwrap();
            found.extend(page.rows.into_iter().map(|(key, _)| key));
            match page.next {
                Some(next) => start = next,
                None => break,
            }
        }
        assert_eq!(found, keys[..3]);
        assert_eq!(index.after(b"/a/", b"/a/1", State::Live, 2).await.unwrap().as_ref(), Some(&keys[2]));
        assert_eq!(index.after(b"/a/", b"", State::Live, 3).await.unwrap(), None);
        let listed = Listed { prefix: b"/a/".to_vec(), end: Some(keys[2].clone()), state: State::Live };
        let text = index.text(&listed, b"", b">".to_vec(), Vec::extend_from_slice);
        assert_eq!(text.await.unwrap(), (b">/a/1/a/2/x".to_vec(), None));

        let by = Folded { prefix: b"/a/".to_vec(), delimiter: b"/".to_vec() };
        let page = index.items(&by, b"", 1).await.unwrap();
        assert!(matches!(&page.rows[..], [Item::Key(key, _)] if *key == keys[0]));
        let page = index.items(&by, &page.next.unwrap(), 9).await.unwrap();
        assert!(matches!(&page.rows[..], [Item::Folder(folder)] if folder == b"/a/2/"), "{page:?}");
    })
    .await;
}

#[tokio::test]
async fn keys_that_have_intents_are_found() {
    on_every_engine(async |index| {
        for (id, key) in (1..).zip(["/a", "/b", "/c"]) {
            let key = Key::new(key.as_bytes());
            done(index.begin(&key, intent(id, &[named("a:1", id)]), always()).await.unwrap());
        }
        done(index.end(&Key::new(b"/b"), intent(2, &[named("a:1", 2)])).await.unwrap());
        let (mut found, mut start) = (Vec::new(), Vec::new());
        loop {
            let page = index.intents_page(&start).await.unwrap();
            found.extend(page.rows.into_iter().map(|(_, intents)| intents[0].id));
            match page.next {
                Some(next) => start = next,
                None => break,
            }
        }
        assert_eq!(found, [1, 3]);
    })
    .await;
}
