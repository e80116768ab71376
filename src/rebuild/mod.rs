//! Makes a new index from the files on the volumes.
//!
//! First all volumes are listed, and their files are gathered by key in a temporary database, the scratch;
//! the run fails if any listing can't be read to its end. Then each key's files are judged (`verdict`), and
//! the index is written in a directory beside its final path and moved there when it is complete. A killed run
//! leaves only that directory, which the next run removes.
//!
//! On the volumes, parts of uploads look like values, but they are useless without the upload: a part is kept
//! if an older index knows the part and its upload, and is left over otherwise.

mod identity;
mod line;
mod older;
mod verdict;
mod walk;
mod work_place;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::index::notes::{Note, Notes};
use crate::index::scratch::{Found, Scratch};
use crate::index::{self, Entry, Index, IndexError, Loaded, number_floor};
use crate::key::{Key, Name};
use crate::placement::Placement;
use crate::progress::Progress;
use crate::record::{Form, Intent, Record, State};
use crate::runtime::blocking;
use crate::volume::{Addresses, Timeouts, Volumes};

use line::text;
use older::{each_page_of_notes, older, open};
use verdict::{Candidate, Known, Verdict, judge};
use walk::Walk;
use work_place::{WorkPlace, publish};

/// Batches of files waiting to be written to the scratch.
const WINDOW: usize = 2;

/// Keys judged per write of the index.
const BATCH: usize = 500;

/// The options of a rebuild.
#[derive(Clone, Debug)]
pub struct Options {
    /// The path of the new index; it must not exist, or be an empty directory.
    pub db: PathBuf,
    /// Options of the new index.
    pub index: index::Options,
    /// The volumes, and how many replicas a value has.
    pub placement: Placement,
    /// Where the volumes are that have names of their own.
    pub addresses: Addresses,
    /// Timeouts for requests to volumes.
    pub timeouts: Timeouts,
    /// Listings read at a time, of each volume.
    pub jobs: usize,
    /// Whether keys found on too few volumes become live; otherwise they become unlinked.
    pub keep_suspects: bool,
    /// An older index, or a dump of one. Its states, MD5s, headers and intents are used for values whose files agree.
    pub from: Option<PathBuf>,
    /// The form of the new records, by the program that reads it.
    pub records: Form,
}

impl Options {
    /// Whether the index is for minikeyvalue, which has no intents, notes or generation names.
    fn is_for_minikeyvalue(&self) -> bool {
        self.records == Form::Minikeyvalue
    }
}

/// The outcome of a rebuild.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys in the new index, except parts of uploads.
    pub objects: u64,
    /// Bytes of their values, each counted once.
    pub bytes: u64,
    /// Parts of uploads that the older index knows.
    pub parts: u64,
    /// Unlinked keys: found on too few volumes, or unlinked in the older index.
    pub unlinked: u64,
    /// Keys with fewer replicas than wanted.
    pub incomplete: u64,
    /// Files that no record names, which the master will delete (minikeyvalue keeps them).
    pub leftovers: u64,
    /// Files that belong to no key and are left alone.
    pub junk: u64,
    /// Values of the older index that are on no volume.
    pub lost: u64,
    /// Keys left out because minikeyvalue can't read their files' names.
    pub failures: u64,
}

/// A remark for the operator.
#[derive(Debug)]
pub enum Remark {
    /// A file that belongs to no key: `VOLUME/path`.
    Junk(String),
    /// A key found on too few volumes.
    Suspect(Key),
    /// A key of the older index that is on no volume.
    Lost(Key),
    /// A key whose file has a name that minikeyvalue can't read.
    Unreadable(Key),
}

/// Rebuilds the index, and passes remarks to `remark` during the run.
///
/// # Errors
///
/// One line for the operator; no index was made.
pub async fn rebuild(
    options: &Options,
    progress: &Arc<Progress>,
    remark: impl Fn(Remark) + Send + Sync + 'static,
) -> Result<Summary, String> {
    let place = WorkPlace::take(&options.db)?;
    let (old, old_written) = match &options.from {
        Some(from) => {
            let (index, written) = older(from, options.index, &place.directory, progress).await?;
            (Some(Arc::new(index)), written)
        }
        None => (None, 0),
    };
    let scratch_path = place.directory.join("scratch");
    let index_options = options.index;
    let scratch = blocking(move || Scratch::create(&scratch_path, index_options)).await?.map_err(text)?;
    let mut run = Run {
        options,
        progress,
        remark: Arc::new(remark),
        volumes: Volumes::new(options.addresses.clone(), options.timeouts),
        scratch: Arc::new(scratch),
        old,
        old_written,
        ignores_intents: false,
        uploads: HashSet::new(),
        summary: Summary::default(),
    };
    let before = identity::find(options, run.old.as_deref()).await?;
    run.ignores_intents = before.as_ref().is_some_and(|identity| identity.is_older_outdated);
    run.find_uploads().await?;
    let (files, newest) = run.list().await?;
    let identity = identity::find(options, run.old.as_deref()).await?;
    identity::check_unchanged(before.as_ref(), identity.as_ref())?;
    let new_path = place.directory.join("index");
    let index = open(new_path.clone(), index::Options { create: true, ..options.index }).await?;
    if !options.is_for_minikeyvalue() {
        let old_end = match &run.old {
            Some(old) => old.first_unreserved().await.map_err(text)?,
            None => 0,
        };
        let floor = number_floor(Timestamp::now());
        index.reserve_beyond(old_end.max(newest).max(floor)).await.map_err(text)?;
    }
    run.judge_all(&index, files).await?;
    run.keep_old(&index).await?;
    if let Some(identity) = identity.filter(|_| options.records == Form::Current) {
        identity.note(&index, before).await.map_err(text)?;
    }
    let Run { summary, old, .. } = run;
    blocking(move || {
        index.close();
        drop(old);
    })
    .await?;
    publish(&new_path, &options.db)?;
    Ok(summary)
}

struct Run<'a, R> {
    options: &'a Options,
    progress: &'a Arc<Progress>,
    remark: Arc<R>,
    volumes: Volumes,
    scratch: Arc<Scratch>,
    old: Option<Arc<Index>>,
    /// The time of the older index's last write, in seconds since 1970.
    old_written: u64,
    /// Whether the older index's intents would doom files of values.
    ignores_intents: bool,
    /// The uploads whose parts are kept.
    uploads: HashSet<u64>,
    summary: Summary,
}

impl<R: Fn(Remark) + Send + Sync + 'static> Run<'_, R> {
    /// Lists all volumes into the scratch; returns the number of files and the highest generation.
    async fn list(&mut self) -> Result<(u64, u64), String> {
        self.progress.begin("listing the volumes (directories)", 0);
        let (sender, mut files) = mpsc::channel::<Vec<(Key, Found)>>(WINDOW);
        let scratch = Arc::clone(&self.scratch);
        let writer = blocking(move || {
            let (mut count, mut newest) = (0, 0);
            while let Some(mut batch) = files.blocking_recv() {
                count += batch.len() as u64;
                for (_, found) in &batch {
                    if let Name::Generation(generation) = found.replica.name {
                        newest = newest.max(generation);
                    }
                }
                // LevelDB inserts sorted rows faster
                batch.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                scratch.add(&batch)?;
            }
            Ok::<_, IndexError>((count, newest))
        });
        let found_junk = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let walk = Walk {
            timeouts: self.options.timeouts,
            jobs: self.options.jobs,
            files: sender,
            junk: {
                let (found_junk, remark) = (Arc::clone(&found_junk), Arc::clone(&self.remark));
                move |path| {
                    found_junk.fetch_add(1, Ordering::Relaxed);
                    remark(Remark::Junk(path));
                }
            },
            progress: Arc::clone(self.progress),
            addresses: self.options.addresses.clone(),
            stop: stop.clone(),
        };
        // stops the threads at the first failure, or when this future is dropped
        let stop = stop.drop_guard();
        let volumes = self.options.placement.volumes();
        let walks: Vec<_> = volumes.map(|name| walk.clone().list(name.to_owned())).collect();
        drop(walk);
        let walked = futures_util::future::try_join_all(walks).await;
        drop(stop);
        // a failure of the scratch also fails the walk, so it is reported first
        let written = writer.await.map_err(text)?.map_err(text)?;
        walked?;
        self.summary.junk = found_junk.load(Ordering::Relaxed);
        Ok(written)
    }

    /// Judges the files of every key.
    async fn judge_all(&mut self, index: &Index, files: u64) -> Result<(), String> {
        self.progress.begin("judging (files)", files);
        let (sender, mut batches) = mpsc::channel(2);
        let scratch = Arc::clone(&self.scratch);
        let reader = blocking(move || {
            let mut groups = scratch.groups();
            let mut batch = Vec::with_capacity(BATCH);
            while let Some(group) = groups.next_group()? {
                batch.push(group);
                if batch.len() == BATCH && sender.blocking_send(std::mem::take(&mut batch)).is_err() {
                    return Ok(());
                }
            }
            // the receiver is gone only after a failure, which it reports
            drop(sender.blocking_send(batch));
            Ok::<_, IndexError>(())
        });
        while let Some(batch) = batches.recv().await {
            let mut rows = Vec::with_capacity(batch.len());
            for (key, found) in batch {
                self.progress.step(found.len() as u64);
                let row = self.judge_key(index, &key, found).await?;
                rows.push((key, row));
            }
            index.load(rows).await.map_err(text)?;
        }
        reader.await.map_err(text)?.map_err(text)
    }

    async fn judge_key(&mut self, index: &Index, key: &Key, found: Vec<Found>) -> Result<Loaded, String> {
        let old = self.old_entry(key).await?;
        let part = key.as_part();
        let is_wanted = part.is_none_or(|(upload, _)| old.record.is_some() && self.uploads.contains(&upload));
        let candidates = if is_wanted { self.compare(key, found).await? } else { unread(found) };
        let placement = &self.options.placement;
        let known = Known { entry: &old, written: self.old_written };
        let mut verdict = judge(candidates, &known, placement.replicas, &placement.rank(key));
        // a part needs its old record: without it no upload can be completed with the part
        if !is_wanted || (part.is_some() && !verdict.known) {
            verdict.discard();
        }
        let Verdict { record, leftovers, intents, suspect, known: _ } = verdict;
        let mut loaded = Loaded { record: None, intents };
        match record {
            Some(record) if part.is_some() => {
                self.summary.parts += 1;
                self.summary.incomplete += u64::from(record.replicas.len() < placement.replicas);
                loaded.record = record.encode_in(self.options.records);
            }
            Some(record) => loaded.record = self.judged(key, record, suspect),
            // no loss: the upload may have been completed or aborted since the older index
            None if part.is_some() => {}
            None if old.record.is_some() => self.lost(key),
            None => {}
        }
        self.summary.leftovers += leftovers.len() as u64;
        if self.options.is_for_minikeyvalue() {
            loaded.intents.clear();
        } else if !leftovers.is_empty() {
            let id = index.number().await.map_err(text)?;
            loaded.intents.push(Intent { id, files: leftovers });
        }
        Ok(loaded)
    }

    /// Counts an object and returns its record's stored form; `None` if the form can't express it.
    fn judged(&mut self, key: &Key, mut record: Record, suspect: bool) -> Option<Vec<u8>> {
        if suspect {
            (self.remark)(Remark::Suspect(key.clone()));
            record.state = if self.options.keep_suspects { State::Live } else { State::Unlinked };
        }
        // minikeyvalue doesn't split names
        let is_readable = !self.options.is_for_minikeyvalue() || !key.path(Name::Plain).contains('~');
        let stored = record.encode_in(self.options.records).filter(|_| is_readable);
        if stored.is_some() {
            self.summary.objects += 1;
            // a listing may claim any size
            self.summary.bytes = self.summary.bytes.saturating_add(record.size.unwrap_or(0));
            self.summary.unlinked += u64::from(record.state == State::Unlinked);
            self.summary.incomplete += u64::from(record.replicas.len() < self.options.placement.replicas);
        } else {
            self.summary.failures += 1;
            (self.remark)(Remark::Unreadable(key.clone()));
        }
        stored
    }

    /// Computes the MD5 of files that have the same size but different names or times, to tell whether they are
    /// replicas of one value: a rebalance may store a replica under a new name, and a volume that lost power may
    /// have an older value under the same name.
    async fn compare(&self, key: &Key, found: Vec<Found>) -> Result<Vec<Candidate>, String> {
        let unlike = |a: &Found, b: &Found| a.replica.name != b.replica.name || are_apart(a, b);
        let mut candidates = Vec::with_capacity(found.len());
        for file in &found {
            let alike = || found.iter().filter(|other| other.size == file.size);
            let ambiguous = file.size > 0 && alike().any(|one| alike().any(|other| unlike(one, other)));
            let md5 = if ambiguous {
                let volume = self.volumes.named(file.replica.place.volume());
                let path = format!("{}{}", file.replica.place.directory(), key.path(file.replica.name));
                let md5 = volume.md5(&path).await;
                Some(md5.map_err(|error| format!("can't read http://{}{path}: {error}", volume.address()))?)
            } else {
                None
            };
            candidates.push(Candidate { found: file.clone(), md5 });
        }
        Ok(candidates)
    }

    /// Finds the uploads whose parts are kept: those that the older index knows, or none for minikeyvalue.
    async fn find_uploads(&mut self) -> Result<(), String> {
        let Some(old) = self.old.clone().filter(|_| !self.options.is_for_minikeyvalue()) else {
            return Ok(());
        };
        each_page_of_notes(&old, Notes::Uploads, async |page| {
            self.uploads.extend(page.iter().filter_map(|(note, _)| note.upload()));
            Ok(())
        })
        .await
    }

    /// Reports keys of the older index that have no file on any volume, keeps such keys' intents, and copies the
    /// notes of buckets and uploads.
    async fn keep_old(&mut self, index: &Index) -> Result<(), String> {
        let Some(old) = self.old.clone() else { return Ok(()) };
        self.progress.begin("comparing with the older index (keys)", 0);
        let mut start = Vec::new();
        loop {
            let page = old.page(b"/", &start, None).await.map_err(text)?;
            for (key, _) in page.rows {
                self.progress.step(1);
                if !self.scratch.has(&key).map_err(text)? {
                    self.lost(&key);
                }
            }
            match page.next {
                Some(next) => start = next,
                None => break,
            }
        }
        if self.options.is_for_minikeyvalue() {
            return Ok(());
        }
        let mut start = (!self.ignores_intents).then(Vec::new);
        while let Some(from) = start {
            let page = old.intents_page(&from).await.map_err(text)?;
            let mut rows = Vec::new();
            for (key, intents) in page.rows {
                if !self.scratch.has(&key).map_err(text)? {
                    rows.push((key, Loaded { record: None, intents }));
                }
            }
            index.load(rows).await.map_err(text)?;
            start = page.next;
        }
        for notes in [Notes::Buckets, Notes::Uploads] {
            let records = self.options.records;
            let stored = |(note, record): (Note, Record)| Some((note, record.encode_in(records)?));
            each_page_of_notes(&old, notes, async |page| {
                index.load_notes(page.into_iter().filter_map(stored).collect()).await
            })
            .await?;
        }
        Ok(())
    }

    async fn old_entry(&self, key: &Key) -> Result<Entry, String> {
        match &self.old {
            Some(old) => {
                let mut entry = old.entry(key).await.map_err(text)?;
                if self.ignores_intents {
                    entry.intents.clear();
                }
                Ok(entry)
            }
            None => Ok(Entry::default()),
        }
    }

    fn lost(&mut self, key: &Key) {
        self.summary.lost += 1;
        (self.remark)(Remark::Lost(key.clone()));
    }
}

/// The files as candidates without an MD5.
fn unread(found: Vec<Found>) -> Vec<Candidate> {
    found.into_iter().map(|found| Candidate { found, md5: None }).collect()
}

/// Whether two files' times are so different that they are of two attempts. davkv gives all replicas of a value
/// the same time; minikeyvalue's replicas have the time of each volume's clock when the last byte came.
fn are_apart(a: &Found, b: &Found) -> bool {
    const SECONDS: u64 = 2;
    a.modified.zip(b.modified).is_some_and(|(a, b)| a.abs_diff(b) > SECONDS)
}
