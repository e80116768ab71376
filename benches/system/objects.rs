//! Stores as years of use leave them, made without their masters: rows of the index, files on the volumes.
//!
//! The keys are the thrasher's of a seed, so that it can ask for them. All files of a volume are links to
//! one value: what matters to nginx, to a rebuild and to a rebalance are their names, and a million files
//! of their own would not fit into memory.

use std::fs;
use std::path::{Path, PathBuf};

use davkv::clock::Timestamp;
use davkv::index::{Index, Loaded, Options};
use davkv::key::{Key, Name};
use davkv::placement::Placement;
use davkv::record::{Record, Replica, State};
use md5::{Digest as _, Md5};

use crate::Failure;
use crate::stage::Stage;

// the thrasher's own, so that there are no two notions of its keys
#[path = "../../thrasher/value.rs"]
#[allow(dead_code, unused_imports, reason = "its keys are all that is wanted here")]
mod value;

/// What all the values are.
const VALUE: &[u8; 16] = b"a value of 16 B\n";
/// What is done between two looks at whether it should end.
const BATCH: usize = 1_000;
const OPTIONS: Options = Options { create: true, cache_bytes: 64 << 20, sync: false };

/// Keys of the thrasher.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    prefix: String,
    seed: u64,
    pub(crate) count: u64,
}

impl Objects {
    /// Those of its `--seed` and `--count`.
    pub(crate) fn new(seed: u64, count: u64) -> Self {
        Self { prefix: "/benchmark-".to_owned(), seed, count }
    }

    /// Those that its `--mode list` counts.
    pub(crate) fn listed(seed: u64, count: u64) -> Self {
        Self { prefix: format!("/benchmark-{seed}/"), ..Self::new(seed, count) }
    }

    /// Keys that begin so.
    #[cfg(feature = "s3")]
    pub(crate) fn below(prefix: &str, seed: u64, count: u64) -> Self {
        Self { prefix: prefix.to_owned(), seed, count }
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        (0..self.count).map(|n| value::Item::new(&self.prefix, self.seed, n, value::Size(1)).key)
    }

    /// The first of them.
    pub(crate) fn first(&self) -> Result<Key, Failure> {
        self.keys().next().ok_or_else(|| "there are no objects".into())
    }

    /// Writes their records into a new index.
    pub(crate) async fn index(&self, db: &Path, placement: &Placement) -> Result<(), Failure> {
        let index = Index::open(db, OPTIONS)?;
        let modified = Timestamp::now();
        let mut keys = self.keys();
        loop {
            let batch = keys.by_ref().take(BATCH);
            let rows: Vec<_> = batch.map(|key| row(key, placement, modified)).collect();
            if rows.is_empty() {
                break;
            }
            index.load(rows).await?;
        }
        index.close();
        Ok(())
    }

    /// Puts their files on the volumes.
    pub(crate) async fn files(&self, stage: &Stage, placement: &Placement) -> Result<(), Failure> {
        let mut links = Links { parent: stage.path("values"), made: 0 };
        fs::create_dir_all(&links.parent)?;
        for (n, key) in self.keys().enumerate() {
            for place in placement.wanted(&key) {
                let volume = stage.directory_of(place.volume()).ok_or("a place is on no volume")?;
                let path = format!("{}{}", place.directory(), key.path(Name::Plain));
                links.make(&volume.join(path.trim_start_matches('/')))?;
            }
            if n % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

fn row(key: Key, placement: &Placement, modified: Timestamp) -> (Key, Loaded) {
    let places = placement.wanted(&key).into_iter();
    let record = Record {
        state: State::Live,
        replicas: places.map(|place| Replica { place, name: Name::Plain }).collect(),
        md5: Some(Md5::digest(VALUE).into()),
        size: Some(VALUE.len() as u64),
        modified: Some(modified),
        headers: Vec::new(),
    };
    (key, Loaded { record: Some(record.encode()), intents: Vec::new() })
}

/// Files that are links to a value; to the next one when the file system allows no more to the last.
struct Links {
    parent: PathBuf,
    made: u32,
}

impl Links {
    fn make(&mut self, path: &Path) -> Result<(), Failure> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if self.made == 0 || fs::hard_link(self.value(), path).is_err() {
            self.made += 1;
            fs::write(self.value(), VALUE)?;
            fs::hard_link(self.value(), path)?;
        }
        Ok(())
    }

    fn value(&self) -> PathBuf {
        self.parent.join(self.made.to_string())
    }
}
