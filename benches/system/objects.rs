//! Full stores, made without their masters: rows of the index, files on the volumes.
//!
//! The keys are those that the thrasher makes of a seed, so that it can ask for them. All files are links to
//! a few values: nginx, a rebuild and a rebalance look at their names, and a million files with bytes of
//! their own would not fit into memory.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use davkv::clock::Timestamp;
use davkv::index::{Index, Loaded, Options};
use davkv::key::{Key, Name};
use davkv::record::{Form, Record, Replica, State};
use md5::{Digest as _, Md5};

use crate::settings::Result;
use crate::stage::Stage;

// the thrasher's own, so that both make the same keys
#[path = "../../thrasher/value.rs"]
#[allow(dead_code, unused_imports, reason = "only its keys are used here")]
mod value;

/// The bytes of every value.
const VALUE: &[u8; 16] = b"a value of 16 B\n";
/// Records that are written into the index at once.
const BATCH: u64 = 1_000;
/// Objects whose files are links to one value: ext4 allows 65,000 links, and objects have up to 3 files.
const LINKED: u64 = 20_000;
const OPTIONS: Options = Options { create: true, cache_bytes: 64 << 20, sync: false };

/// A seed that this process has not used before: a key that is written again would get another name.
pub(crate) fn new_seed() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// The keys of a thrasher with this `--seed`, prefix and `--count`.
pub(crate) struct Objects {
    pub(crate) seed: u64,
    pub(crate) prefix: String,
    pub(crate) count: u64,
    /// How many of them have files; the others are in the index alone.
    pub(crate) files: u64,
}

impl Objects {
    pub(crate) fn new(seed: u64, count: u64, files: u64) -> Self {
        Self { seed, prefix: "/benchmark-".to_owned(), count, files }
    }

    pub(crate) fn key(&self, n: u64) -> Key {
        value::Item::new(&self.prefix, self.seed, n, value::Size(1)).key
    }

    /// Puts them into the index and onto the first so many volumes.
    pub(crate) async fn make(&self, stage: &Stage, volumes: usize) -> Result<()> {
        let (index, placement) = (Index::open(&stage.path("db"), OPTIONS)?, stage.placement(volumes));
        let modified = Timestamp::now();
        let mut rows = Vec::new();
        for n in 0..self.count {
            let key = self.key(n);
            let places = placement.wanted(&key).into_iter();
            let replicas: Vec<_> = places.map(|place| Replica { place, name: Name::Plain }).collect();
            if n < self.files {
                link(stage, n, &key, &replicas)?;
            }
            let record = Record {
                state: State::Live,
                replicas,
                md5: Some(Md5::digest(VALUE).into()),
                size: Some(VALUE.len() as u64),
                modified: Some(modified),
                headers: Vec::new(),
            };
            // in a form that older builds read, too (--against)
            rows.push((key, Loaded { record: record.encode_in(Form::Davkv01), intents: Vec::new() }));
            if rows.len() as u64 == BATCH || n + 1 == self.count {
                index.load(std::mem::take(&mut rows)).await?;
                // here an interruption can end the work
                tokio::task::yield_now().await;
            }
        }
        index.close();
        Ok(())
    }
}

/// Makes the files of the n-th object: links to a value, which is written for the first of them.
fn link(stage: &Stage, n: u64, key: &Key, replicas: &[Replica]) -> Result<()> {
    let value = stage.path(&format!("value-{}", n / LINKED));
    if !value.exists() {
        fs::write(&value, VALUE)?;
    }
    for Replica { place, name } in replicas {
        let path = stage.path(&format!("{}{}{}", place.volume(), place.directory(), key.path(*name)));
        fs::create_dir_all(path.parent().ok_or("a file has no directory")?)?;
        fs::hard_link(&value, path)?;
    }
    Ok(())
}
