//! A store over volumes with gates in front of them, and one key.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use davkv::error::Result;
use davkv::identity::Owner;
use davkv::index::{self, Index};
use davkv::key::{Key, Name};
use davkv::placement::Placement;
use davkv::record::{Headers, Record};
use davkv::store::{Forgotten, IdentifyError, Incoming, Options, Precondition, Store};
use davkv::volume::{Addresses, Timeouts, Volumes};
use http_body_util::Full;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::common::{Gate, Volume};

const REPLICAS: usize = 3;

pub(crate) struct Rig {
    /// `None` while it restarts.
    store: Option<Store>,
    options: Options,
    db: PathBuf,
    pub(crate) key: Key,
    pub(crate) runtime: Runtime,
    pub(crate) gates: Vec<Gate>,
    pub(crate) volumes: Vec<Volume>,
    _tempdir: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new(reader_grace: Duration, protect: bool) -> Self {
        Self::with(REPLICAS, |options| (options.reader_grace, options.protect) = (reader_grace, protect))
    }

    /// A store over this many volumes.
    pub(crate) fn with(volumes: usize, adapt: impl FnOnce(&mut Options)) -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        let volume = |number| Volume::start(&tempdir.path().join(format!("volume{number}")));
        let volumes: Vec<_> = (0..volumes).map(volume).collect();
        let gates: Vec<_> = volumes.iter().map(Gate::before).collect();
        let mut options = Options {
            placement: Placement::new(gates.iter().map(Gate::addr).collect(), REPLICAS, 1),
            timeouts: Timeouts { request: Duration::from_secs(5), stream: Duration::from_secs(10) },
            client_idle: Duration::from_secs(10),
            md5: true,
            protect: false,
            generation_names: false,
            quarantine: Duration::from_mins(10),
            reader_grace: Duration::ZERO,
            recheck: Duration::ZERO,
            upload_expiry: Duration::ZERO,
            sweep_every: Duration::from_hours(1),
            raise_every: Duration::from_mins(1),
            forgotten: Forgotten::default(),
            replaced: Vec::new(),
        };
        adapt(&mut options);
        let (db, key) = (tempdir.path().join("db"), Key::new(b"/bucket/key"));
        let runtime = Runtime::new().unwrap();
        let mut rig = Self { store: None, options, db, key, runtime, gates, volumes, _tempdir: tempdir };
        rig.start();
        rig
    }

    fn open(&self) -> Index {
        let options = index::Options { create: true, cache_bytes: 1 << 20, sync: false };
        // whatever still ran when its store stopped
        Index::open(&self.db, options).unwrap()
    }

    fn start(&mut self) {
        let (volumes, options) =
            (Volumes::new(Addresses::default(), self.options.timeouts).verified(), self.options.clone());
        let index = self.open();
        self.store = Some(self.runtime.block_on(async {
            let store = Store::new(index, volumes, options);
            store.start().await.unwrap();
            store
        }));
    }

    /// Stops the store, runs `between` on the index, and starts the store again.
    pub(crate) fn restart(&mut self, between: impl AsyncFnOnce(&Index)) {
        self.runtime.block_on(self.store.take().unwrap().stop(Duration::from_secs(30)));
        let index = self.open();
        self.runtime.block_on(between(&index));
        index.close();
        self.start();
    }

    /// Copies the index, as it is now, into a directory of that name. Also tells the number of the run that the copy
    /// has.
    pub(crate) fn copy_index(&self, name: &str) -> (PathBuf, u64) {
        let copied = self.db.with_file_name(name);
        let status = Command::new("cp").arg("-a").args([&self.db, &copied]).status().unwrap();
        assert!(status.success());
        let options = index::Options { create: false, cache_bytes: 1 << 20, sync: false };
        let index = Index::open(&copied, options).unwrap();
        let owner = self.runtime.block_on(index.owner()).unwrap().unwrap();
        index.close();
        (copied, owner.run.number)
    }

    /// Makes a copy of the index one that doesn't know that it is a copy, as that of a machine that was cloned.
    pub(crate) fn settle_copy(&self, db: &Path) {
        let options = index::Options { create: false, cache_bytes: 1 << 20, sync: false };
        let index = Index::open(db, options).unwrap();
        let owner = self.runtime.block_on(index.owner()).unwrap().unwrap();
        let owner = Owner { home: index.home().unwrap(), ..owner };
        self.runtime.block_on(index.set_owner(&owner)).unwrap();
        index.close();
    }

    /// Starts another store over the same volumes with that index.
    pub(crate) fn start_with(&self, db: &Path) -> std::result::Result<Store, IdentifyError> {
        let options = index::Options { create: false, cache_bytes: 1 << 20, sync: false };
        let (index, timeouts) = (Index::open(db, options).unwrap(), self.options.timeouts);
        self.runtime.block_on(async {
            let volumes = Volumes::new(Addresses::default(), timeouts).verified();
            let store = Store::new(index, volumes, self.options.clone());
            store.start().await.map(|()| store)
        })
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn replace(&self, value: &[u8], when: Precondition) -> Result<Record> {
        let headers = vec![("content-type".to_owned(), "a/b".to_owned())];
        self.runtime.block_on(self.store().replace(&self.key, whole(value), when, |_| Ok(headers)))
    }

    pub(crate) fn remove(&self, when: Precondition) -> Result<()> {
        self.runtime.block_on(self.store().remove(&self.key, when))
    }

    /// Reads a range of the value, or all of it.
    pub(crate) fn read(&self, part: Option<Range<u64>>) -> Result<Vec<u8>> {
        self.runtime.block_on(async {
            let record = self.store().stat(&self.key).await?;
            let part = part.unwrap_or(0..record.size.unwrap());
            let mut reading = self.store().read(&self.key, record, part).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = reading.next().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        })
    }

    pub(crate) fn begin(&self) -> u64 {
        self.runtime.block_on(self.store().begin_upload(&self.key, Headers::new())).unwrap()
    }

    /// The note of the upload.
    pub(crate) fn upload(&self, key: &Key, upload: u64) -> Result<Record> {
        self.runtime.block_on(self.store().upload(key, upload))
    }

    pub(crate) fn put_part(&self, upload: u64, number: u16, bytes: &[u8]) -> Result<Record> {
        let put = self.store().put_part(&self.key, upload, number, whole(bytes), |_| Ok(Headers::new()));
        self.runtime.block_on(put)
    }

    /// An upload with these parts.
    pub(crate) fn uploaded(&self, parts: &[Vec<u8>]) -> u64 {
        let upload = self.begin();
        for (number, part) in (1..).zip(parts) {
            self.put_part(upload, number, part).unwrap();
        }
        upload
    }

    pub(crate) fn parts(&self, upload: u64) -> Result<Vec<(u16, Record)>> {
        let (parts, next) = self.runtime.block_on(self.store().parts(&self.key, upload, 1, 100))?;
        assert_eq!(next, None);
        Ok(parts)
    }

    /// Completes the upload with all its parts.
    pub(crate) fn complete(&self, upload: u64, when: Precondition) -> Result<Record> {
        let parts = self.parts(upload)?;
        self.complete_with(upload, parts, when)
    }

    pub(crate) fn complete_with(
        &self,
        upload: u64,
        parts: Vec<(u16, Record)>,
        when: Precondition,
    ) -> Result<Record> {
        let completion = self.completion(upload, parts, when);
        self.runtime.block_on(completion).unwrap()
    }

    /// Starts a completion in the background.
    pub(crate) fn completion(
        &self,
        upload: u64,
        parts: Vec<(u16, Record)>,
        when: Precondition,
    ) -> JoinHandle<Result<Record>> {
        let (store, key) = (self.store().clone(), self.key.clone());
        self.runtime.spawn(async move {
            store.complete_upload(&key, upload, parts, when, |_| (), |_| Ok(Headers::new())).await
        })
    }

    pub(crate) fn abort(&self, upload: u64) -> Result<()> {
        self.runtime.block_on(self.store().abort_upload(&self.key, upload))
    }

    /// All files on all volumes.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let path = |volume: &Volume, path| volume.dir().join(path);
        self.volumes.iter().flat_map(|v| v.paths().into_iter().map(move |p| path(v, p))).collect()
    }

    /// The gate in front of the volume at that address.
    pub(crate) fn gate(&self, address: &str) -> &Gate {
        self.gates.iter().find(|gate| gate.addr() == address).unwrap()
    }
}

/// A body of one piece.
pub(crate) fn whole(value: &[u8]) -> Incoming<Full<Bytes>> {
    Incoming { body: Full::new(Bytes::copy_from_slice(value)), length: Some(value.len() as u64), md5: None }
}

/// The common part of the paths of the key's files.
pub(crate) fn path_of(key: &Key) -> String {
    let path = key.path(Name::Generation(0));
    path.split(',').next().unwrap().to_owned()
}
