//! Which volumes take part: whoever they are is looked at when the store starts, and again whenever that is in doubt.
//!
//! A volume is verified once its markers and the index agree, or once it was adopted: an empty one, or one of an index
//! that was made before there were markers. Each run of a program writes its name into the markers, so that another one
//! with a copy of the same index notices, and ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::core::Core;
use super::replicas::{can_be_file, path};
use super::standing::{IdentifyError, Standing};
use super::survey::Look;
use crate::clock::Timestamp;
use crate::identity::{Found, Id, Known, Marker, Owner, Problem, Run, Verdict, judge};
use crate::index::{IndexError, number_floor};
use crate::key::PARTS;
use crate::volume::{Expected, VERIFY_EVERY, Volume, VolumeError};

/// So many values are looked for in each subvolume without a marker, and so many of a hundred must be there: damage is
/// rare, and another disk of the same store has half of them at most.
const SAMPLE: usize = 32;
const ENOUGH: usize = 90;

/// So many records are read to find the sample, unless they name no file on the volume.
const SAMPLED_RECORDS: usize = 200_000;

impl Core {
    /// Finds out whose index this is, takes the volumes over for this run, and tells how each of them stands.
    pub(super) async fn identify(self: &Arc<Self>) -> Result<Vec<(String, Standing)>, IdentifyError> {
        if !self.volumes.are_verified() {
            return Ok(Vec::new());
        }
        let known = self.index.known_volumes().await?;
        let names: BTreeSet<&str> =
            self.options.placement.volumes().chain(known.keys().map(String::as_str)).collect();
        // nothing on a volume that is gone for good is asked for
        let names: BTreeSet<&str> =
            names.into_iter().filter(|name| !self.options.forgotten.contains(name)).collect();
        for replaced in &self.options.replaced {
            let name = replaced.split('/').next().unwrap_or_default();
            if !names.contains(name) {
                tracing::warn!("--replaced {replaced}: no volume has that name");
            }
        }
        let looks = join_all(names.iter().map(|name| self.look(name, known.get(*name)))).await;
        let (owner, contested) = self.next_owner(&looks).await?;
        self.index.set_owner(&owner).await?;
        let is_copy = owner.own_from > 0;
        self.owner.set(owner).unwrap_or_else(|_| unreachable!("a store is identified once"));
        let mut standings = Vec::new();
        for (name, look) in names.iter().zip(looks) {
            let standing = self.settle_identity(name, known.get(*name), look).await?;
            if matches!(standing, Standing::Taken) {
                return Err(IdentifyError::Outdated);
            }
            standing.log(name);
            standings.push(((*name).to_owned(), standing));
        }
        if is_copy {
            tracing::warn!(
                "this index is a copy, or an older one: values that were written since are unknown to it; \
                 davkv-rebuild --from finds them"
            );
        }
        if contested {
            let wait = VERIFY_EVERY + 3 * self.options.timeouts.request;
            let wait_for = humantime::format_duration(wait);
            tracing::warn!(%wait_for, "another program may still have the volumes: waiting until it has noticed");
            sleep(wait).await;
        }
        self.tasks.spawn(Arc::clone(self).keep_register(&standings));
        Ok(standings)
    }

    /// Looks after the volumes that take no part, until the store stops.
    fn keep_register(self: Arc<Self>, standings: &[(String, Standing)]) -> impl Future<Output = ()> + use<> {
        let out = standings.iter().filter(|(_, standing)| !standing.is_verified());
        let out = out.map(|(name, standing)| (name.clone(), standing.to_string())).collect();
        self.look_after(out)
    }

    /// `out`: the volumes that take no part, each with what was said of it last.
    async fn look_after(self: Arc<Self>, mut out: BTreeMap<String, String>) {
        loop {
            let pause = async {
                if out.is_empty() {
                    std::future::pending::<()>().await;
                } else {
                    sleep(self.volumes.look_every()).await;
                }
            };
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                name = self.volumes.unverified() => drop(out.entry(name).or_default()),
                () = pause => {}
            }
            // the register itself may have let it in meanwhile
            out.retain(|name, _| self.volumes.named(name).is_out());
            let names: Vec<String> = out.keys().cloned().collect();
            for (name, standing) in join_all(names.into_iter().map(|name| self.look_again(name))).await {
                let told = standing.to_string();
                if out.get(&name) != Some(&told) {
                    standing.log(&name);
                }
                if standing.is_verified() {
                    out.remove(&name);
                } else {
                    out.insert(name, told);
                }
                if matches!(standing, Standing::Taken) {
                    self.options.placement.volumes().for_each(|name| self.volumes.named(name).bar());
                    self.taken.cancel();
                    return;
                }
            }
        }
    }

    /// Says in the markers that this run has ended: who comes next needn't wait.
    pub(super) async fn release_volumes(&self) {
        if self.taken.is_cancelled() {
            return;
        }
        let Ok(known) = self.index.known_volumes().await else { return };
        join_all(known.keys().map(|name| async move {
            if let Err(error) = self.volumes.named(name).release().await {
                tracing::debug!(volume = name, %error, "its marker doesn't say that this run has ended");
            }
        }))
        .await;
    }

    async fn look_again(self: &Arc<Self>, name: String) -> (String, Standing) {
        let standing = async {
            let known = self.index.known_volumes().await?;
            let look = self.look(&name, known.get(&name)).await;
            self.settle_identity(&name, known.get(&name), look).await
        };
        let standing = standing.await.unwrap_or_else(|error| {
            Standing::Down(VolumeError::Unreachable(format!("the index can't tell whose it is: {error}")))
        });
        (name, standing)
    }

    /// What lies in the subvolumes of a volume: in those that this store uses, in those that the index knows, and in
    /// further ones that have a marker or files.
    async fn look(&self, name: &str, known: Option<&Known>) -> Look {
        let volume = self.volumes.named(name);
        let mut wanted: BTreeSet<String> =
            known.iter().flat_map(|known| known.directories.iter().cloned()).collect();
        if self.options.placement.volumes().any(|used| used == name) {
            wanted.extend(self.options.placement.directories());
        }
        volume.look_at_all(&wanted.into_iter().collect::<Vec<_>>()).await
    }

    /// Whose index this is in this run, and whether another program may still have the volumes.
    async fn next_owner(&self, looks: &[Look]) -> Result<(Owner, bool), IdentifyError> {
        let found = looks.iter().flatten().flatten();
        let markers: Vec<&Marker> = found
            .filter_map(|(_, found)| match found {
                Found::Marker(marker) => Some(marker),
                _ => None,
            })
            .collect();
        let home = self.index.home()?;
        let new_line = || Run { line: self.random_id(), number: 1 };
        let Some(last) = self.index.owner().await? else {
            // minikeyvalue's index, or one of davkv 0.1; if the volumes have markers, they were in use since
            let store = markers.first().map_or_else(|| self.random_id(), |marker| marker.store);
            let is_older = !markers.is_empty();
            if is_older && self.index.has_numbers().await? {
                return Err(IdentifyError::Outdated);
            }
            // minikeyvalue may have had the volumes since, under names that it chose
            let own_from = if is_older { self.numbers_from_here().await? } else { 0 };
            let (since, run) = (Timestamp::now(), new_line());
            let ancestors = markers.iter().filter_map(|marker| marker.owner).collect();
            return Ok((Owner { store, since, run, home, ended: false, own_from, ancestors }, false));
        };
        let ours = markers.iter().filter(|marker| marker.store == last.store);
        if !ours.filter_map(|marker| marker.owner).all(|run| last.knows(run)) {
            return Err(IdentifyError::Outdated);
        }
        let is_copy = last.home != home && !last.ended;
        let owner = if last.home == home {
            Owner { run: Run { number: last.run.number.saturating_add(1), ..last.run }, ended: false, ..last }
        } else {
            // the next copy of the place where it was must be told from this one
            let ancestors = last.ancestors_of_a_new_line();
            let own_from = if is_copy { self.numbers_from_here().await? } else { last.own_from };
            Owner { run: new_line(), home, ended: false, own_from, ancestors, ..last }
        };
        let line = owner.run.line;
        let is_anothers =
            |marker: &&Marker| !marker.ended && marker.owner.is_some_and(|run| run.line != line);
        let may_be_had = markers.iter().any(is_anothers);
        Ok((owner, may_be_had))
    }

    /// Makes numbers that no other copy of the index has given out, and returns the first of them.
    async fn numbers_from_here(&self) -> Result<u64, IndexError> {
        let next = self.index.first_unreserved().await?.max(number_floor(Timestamp::now()));
        self.index.reserve_beyond(next).await?;
        self.index.first_unreserved().await
    }

    /// Judges what was found on a volume, and lets it take part if that is right.
    async fn settle_identity(
        self: &Arc<Self>,
        name: &str,
        known: Option<&Known>,
        look: Look,
    ) -> Result<Standing, IndexError> {
        let volume = self.volumes.named(name);
        let Some(owner) = self.owner.get() else { return Ok(Standing::Verified) };
        let found = match look {
            Ok(found) => found,
            Err(error) => return Ok(Standing::Down(error)),
        };
        let verdict = judge(owner.store, name, known, &found);
        // bound to the volume that is gone, so that the flag does nothing once it has done its work
        let replaced = known.map_or_else(|| name.to_owned(), |known| format!("{name}/{}", known.volume));
        let is_replaced = self.options.replaced.contains(&replaced);
        let refuse = |problem| Ok(Standing::Refused { problem, replaced: replaced.clone() });
        let first = |directories| Known { volume: self.random_id(), since: Timestamp::now(), directories };
        let (known_now, is_new) = match verdict {
            Verdict::Verified(known) => (known, false),
            Verdict::Refused(problem) if is_replaced && problem.is_of_a_lost_disk() => {
                tracing::warn!(volume = name, "it is replaced: leave --replaced away from now on");
                (first(found.iter().map(|(directory, _)| directory.clone()).collect()), true)
            }
            Verdict::Refused(problem) => return refuse(problem),
            Verdict::Named(other) => {
                let is_used = self.options.placement.volumes().any(|used| used == other);
                return refuse(Problem::Elsewhere { name: other, is_used });
            }
            Verdict::Unmarked { known, new, has_values } => {
                if !is_replaced && (known.is_none() || has_values) {
                    match self.sample(&volume, &new, has_values).await? {
                        Ok(None) => {}
                        Ok(Some(problem)) => return refuse(problem),
                        Err(error) => return Ok(Standing::Down(error)),
                    }
                }
                let mut known = known.unwrap_or_else(|| first(Vec::new()));
                known.directories.extend(new);
                known.directories.sort();
                (known, true)
            }
        };
        match self.mark(&volume, owner, &known_now, &found).await {
            Ok(true) => {}
            Ok(false) => return Ok(Standing::Taken),
            Err(error) => return Ok(Standing::Down(error)),
        }
        // after the markers: a volume that the index knows has all of them
        if known != Some(&known_now) {
            self.index.set_known(name, &known_now).await?;
        }
        volume.admit(Expected { store: owner.store, known: known_now, owner: owner.run });
        Ok(if is_new { Standing::Adopted } else { Standing::Verified })
    }

    /// Writes the markers that don't say yet that this run has the volume; `false` if another run has taken it from
    /// this one.
    async fn mark(
        &self,
        volume: &Arc<Volume>,
        owner: &Owner,
        known: &Known,
        found: &[(String, Found)],
    ) -> Result<bool, VolumeError> {
        let mut expected = Expected { store: owner.store, known: known.clone(), owner: owner.run };
        let there = |directory: &str| found.iter().find(|(at, _)| at == directory).map(|(_, found)| found);
        let is_taken = |found: &Found| match found {
            Found::Marker(marker) if marker.store == owner.store => {
                marker.owner.is_some_and(|run| !owner.knows(run))
            }
            _ => false,
        };
        if found.iter().any(|(_, found)| is_taken(found)) {
            return Ok(false);
        }
        // First those that are missing, each naming those before it: what was written when this is interrupted names
        // no subvolume that has no marker.
        let is_marked = |directory: &String| matches!(there(directory), Some(Found::Marker(_)));
        let (mut so_far, missing): (Vec<_>, Vec<_>) = known.directories.iter().cloned().partition(is_marked);
        for directory in missing {
            so_far.push(directory.clone());
            expected.known.directories.clone_from(&so_far);
            volume.mark(&expected.marker(volume.name(), &directory)).await?;
        }
        expected.known.directories.clone_from(&known.directories);
        for directory in &known.directories {
            let meant = expected.marker(volume.name(), directory);
            if !matches!(there(directory), Some(Found::Marker(marker)) if *marker == meant) {
                volume.mark(&meant).await?;
            }
        }
        Ok(true)
    }

    /// Looks for some values that the index has in each of these subvolumes, and tells what is wrong.
    async fn sample(
        &self,
        volume: &Arc<Volume>,
        directories: &[String],
        has_values: bool,
    ) -> Result<Result<Option<Problem>, VolumeError>, IndexError> {
        let files = self.files_on(volume.name(), directories).await?;
        if files.values().all(Vec::is_empty) {
            return Ok(Ok(has_values.then_some(Problem::Unknown)));
        }
        for (directory, files) in files {
            let mut found = 0;
            for path in &files {
                match volume.shows(path).await {
                    Ok(shown) => found += usize::from(shown),
                    Err(error) => return Ok(Err(error)),
                }
            }
            let of = files.len();
            if found * 100 < of * ENOUGH {
                return Ok(Ok(Some(Problem::Sampled { directory, found, of })));
            }
        }
        Ok(Ok(None))
    }

    /// The paths of some files that the index has on a volume, by subvolume.
    async fn files_on(
        &self,
        volume: &str,
        directories: &[String],
    ) -> Result<BTreeMap<String, Vec<String>>, IndexError> {
        let mut files: BTreeMap<String, Vec<String>> =
            directories.iter().map(|directory| (directory.clone(), Vec::new())).collect();
        for prefix in [b"/", PARTS] {
            let (mut read, mut start) = (0, Some(Vec::new()));
            while let Some(from) = start {
                let page = self.index.page(prefix, &from, None).await?;
                read += page.rows.len();
                for (key, record) in page.rows {
                    for file in record.replicas.iter().filter(|file| file.place.volume() == volume) {
                        if let Some(files) = files.get_mut(file.place.directory())
                            && files.len() < SAMPLE
                            && can_be_file(&key, file)
                        {
                            files.push(path(&key, file));
                        }
                    }
                }
                // an index that has nothing on the volume is read to its end
                let is_enough = read >= SAMPLED_RECORDS && files.values().any(|files| !files.is_empty());
                start = page.next.filter(|_| !is_enough && files.values().any(|files| files.len() < SAMPLE));
            }
        }
        Ok(files)
    }

    fn random_id(&self) -> Id {
        let halves = [(self.random)(), (self.random)()];
        let mut bytes = [0; 16];
        for (part, half) in bytes.chunks_exact_mut(8).zip(halves) {
            part.copy_from_slice(&half.to_be_bytes());
        }
        Id::new(bytes)
    }
}
