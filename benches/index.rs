//! How the index scales: load time, time to open it, look-ups per second and bytes on disk, for a small and
//! a large number of keys in one run. `cargo bench --bench index -- 10000000`

#![allow(clippy::print_stdout, reason = "the figures are what this command is for")]

use std::path::Path;
use std::time::Instant;

use davkv::clock::Timestamp;
use davkv::index::{Index, Loaded, Options};
use davkv::key::{Key, Name};
use davkv::placement::Placement;
use davkv::record::{Record, Replica, State};
use md5::{Digest as _, Md5};
use tokio::runtime::Runtime;

const SMALL: u64 = 10_000;
const LOOKUPS: u64 = 200_000;
const BATCH: u64 = 1_000;
const OPTIONS: Options = Options { create: true, cache_bytes: 64 << 20, sync: false };

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let large = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let directory = tempfile::tempdir()?;
    println!("{:>12} {:>10} {:>10} {:>12} {:>12}", "keys", "load s", "open ms", "look-ups/s", "bytes/key");
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut rates = Vec::new();
    for keys in [SMALL, large] {
        let path = directory.path().join(keys.to_string());
        let begun = Instant::now();
        runtime.block_on(load(&path, keys))?;
        let loaded = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let index = Index::open(&path, OPTIONS)?;
        let opened = begun.elapsed().as_secs_f64() * 1e3;
        // once to warm the caches of the machine, as a running master has them
        look_up(&runtime, &index, keys)?;
        let rate = look_up(&runtime, &index, keys)?;
        rates.push(rate);
        index.close();
        let bytes = bytes_below(&path)?;
        println!("{keys:>12} {loaded:>10.1} {opened:>10.1} {rate:>12.0} {:>12}", bytes / keys);
    }
    if let [small, large] = rates.as_slice() {
        println!("a look-up among many runs at {:.2} of the rate among few", large / small);
    }
    Ok(())
}

async fn load(path: &Path, keys: u64) -> Result<(), Failure> {
    let placement = Placement::new(volumes(), 3, 10);
    let index = Index::open(path, OPTIONS)?;
    for first in (0..keys).step_by(usize::try_from(BATCH)?) {
        let rows = (first..keys.min(first + BATCH)).map(|number| {
            let key = key(number);
            let replicas =
                placement.wanted(&key).into_iter().map(|place| Replica { place, name: Name::Plain });
            let record = Record {
                state: State::Live,
                replicas: replicas.collect(),
                // different for each key: bytes that don't compress make the index as large as in use
                md5: Some(Md5::digest(number.to_be_bytes()).into()),
                size: Some(number),
                modified: Some(Timestamp::from_millis(number)),
                headers: Vec::new(),
            };
            (key, Loaded { record: Some(record.encode()), intents: Vec::new() })
        });
        index.load(rows.collect()).await?;
    }
    index.close();
    Ok(())
}

/// Random keys, all of which exist; look-ups per second.
fn look_up(runtime: &Runtime, index: &Index, keys: u64) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut number = 1_u64;
    for _ in 0..LOOKUPS {
        // a linear congruential generator (Knuth's MMIX constants)
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = key((number >> 16) % keys);
        if runtime.block_on(index.look(&key))?.is_none() {
            return Err(format!("{key} is missing").into());
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "a count of this size fits")]
    Ok(LOOKUPS as f64 / begun.elapsed().as_secs_f64())
}

fn key(number: u64) -> Key {
    Key::new(format!("/benchmark/{:02x}/{number:016x}", number % 256).as_bytes())
}

fn volumes() -> Vec<String> {
    (1..=5).map(|n| format!("10.0.0.{n}:3001")).collect()
}

fn bytes_below(path: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
