//! Whose index it is.

use std::collections::BTreeMap;

use super::on_every_engine;
use crate::clock::Timestamp;
use crate::identity::{Id, Known, Owner, Run};
use crate::index::notes::Notes;
use crate::key::PARTS;

#[tokio::test]
async fn facts_are_kept_apart_from_keys_and_notes() {
    on_every_engine(async |index| {
        assert_eq!(index.owner().await.unwrap(), None);
        assert!(index.known_volumes().await.unwrap().is_empty());
        let id = |digit| Id::new([digit; 16]);
        let (since, run) = (Timestamp::from_millis(5), Run { line: id(2), number: 1 });
        let owner = Owner {
            store: id(1),
            since,
            run,
            home: "here".into(),
            ended: false,
            own_from: 0,
            ancestors: vec![run],
        };
        let known = |digit| Known { volume: id(digit), since, directories: vec!["/sv00".into()] };
        for name in ["b:1", "a:1", "b:1"] {
            index.set_known(name, &known(3)).await.unwrap();
        }
        index.set_known("a:1", &known(4)).await.unwrap();
        index.set_owner(&owner).await.unwrap();
        assert_eq!(index.owner().await.unwrap(), Some(owner));
        let all = BTreeMap::from([("a:1".to_owned(), known(4)), ("b:1".to_owned(), known(3))]);
        assert_eq!(index.known_volumes().await.unwrap(), all);
        for prefix in [b"/".as_slice(), PARTS] {
            assert!(index.page(prefix, b"", None).await.unwrap().rows.is_empty(), "no key has such a row");
        }
        assert!(index.notes_page(Notes::Buckets, b"", None).await.unwrap().rows.is_empty());
        assert!(index.intents_page(b"").await.unwrap().rows.is_empty());
        for _ in 0..2 {
            index.forget_volume("a:1").await.unwrap();
            let left = BTreeMap::from([("b:1".to_owned(), known(3))]);
            assert_eq!(index.known_volumes().await.unwrap(), left);
        }
    })
    .await;
}
