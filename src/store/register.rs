//! Which volumes take part: whoever they are is looked at when the store starts, and again whenever that is in doubt
//! (`lookout`).
//!
//! A volume is verified once its markers and the index agree, or once it was adopted: an empty one, or one of an index
//! that was made before there were markers. Each run of a program writes its name into the owner files, so that another
//! one with a copy of the same index notices, and ends (`ownership`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::core::Core;
use super::sample::sample;
use super::standing::{IdentifyError, Standing};
use super::survey::Look;
use crate::clock::Timestamp;
use crate::identity::{Found, Id, Known, Owner, Problem, Seen, Verdict, judge};
use crate::index::IndexError;
use crate::volume::{Expected, VERIFY_EVERY, Volume, VolumeError};

/// What follows for a volume from what was seen of it.
enum Decision {
    /// It takes no part.
    Out(Standing),
    /// It takes part, or will once it says this; the standing is what it has then.
    In { known: Known, standing: Standing },
}

impl Core {
    /// Finds out whose index this is, takes the volumes over for this run, and tells how each of them stands.
    pub(super) async fn identify(&self) -> Result<Vec<(String, Standing)>, IdentifyError> {
        let known = self.index.known_volumes().await?;
        let looks = self.look_at_all(&known).await;
        let own_before = self.index.owner().await?.map_or(0, |owner| owner.own_from);
        let (owner, is_contested) = self.next_owner(&looks).await?;
        self.index.set_owner(&owner).await?;
        let is_copy = owner.own_from > own_before;
        self.set_owner(owner);
        let mut standings = Vec::new();
        for (name, look) in looks {
            let standing = self.settle_identity(&name, known.get(&name), look).await?;
            if matches!(standing, Standing::Taken) {
                return Err(IdentifyError::Outdated);
            }
            standing.log(&name);
            standings.push((name, standing));
        }
        if is_copy {
            tracing::warn!(
                "this index is a copy, or an older one: values that were written since are unknown to it; \
                 davkv-rebuild --from finds them"
            );
        }
        if is_contested {
            let wait = VERIFY_EVERY + 3 * self.options.timeouts.request;
            let wait_for = humantime::format_duration(wait);
            tracing::warn!(%wait_for, "another program may still have the volumes: waiting until it has noticed");
            sleep(wait).await;
        }
        Ok(standings)
    }

    /// As [`Core::identify`], for a program that writes nothing, neither to the index nor to a volume. A volume that
    /// would be adopted takes part as it is.
    pub(super) async fn inspect(&self) -> Result<Vec<(String, Standing)>, IdentifyError> {
        let known = self.index.known_volumes().await?;
        let looks = self.look_at_all(&known).await;
        let store = self.last_owner(&looks).await?.map_or_else(|| self.random_id(), |owner| owner.store);
        let mut standings = Vec::new();
        for (name, look) in looks {
            let decision = match look {
                Ok(seen) => self.decide(store, &name, known.get(&name), &seen).await?,
                Err(error) => Decision::Out(Standing::Down(error)),
            };
            let volume = self.volumes.named(&name);
            let standing = match decision {
                Decision::Out(standing) => {
                    standing.log(&name);
                    standing
                }
                Decision::In { known, standing: Standing::Verified } => {
                    volume.admit(Expected { store, known, owner: None, ended: false });
                    Standing::Verified
                }
                Decision::In { .. } => {
                    volume.admit_as_it_is();
                    Standing::Verified
                }
            };
            standings.push((name, standing));
        }
        Ok(standings)
    }

    /// Looks at all volumes that this store uses or knows, except those that are gone for good.
    async fn look_at_all(&self, known: &BTreeMap<String, Known>) -> Vec<(String, Look)> {
        let names = self.options.placement.volumes().chain(known.keys().map(String::as_str));
        let names: BTreeSet<&str> = names.filter(|name| !self.options.forgotten.contains(name)).collect();
        for replaced in &self.options.replaced {
            let name = replaced.split('/').next().unwrap_or_default();
            if !names.contains(name) {
                tracing::warn!("--replaced {replaced}: no volume has that name");
            }
        }
        let looks =
            names.iter().map(|name| async { ((*name).to_owned(), self.look(name, known.get(*name)).await) });
        join_all(looks).await
    }

    /// What lies in the subvolumes of a volume: in those that this store uses, in those that the index knows, and in
    /// further ones that have a marker or files.
    pub(super) async fn look(&self, name: &str, known: Option<&Known>) -> Look {
        let volume = self.volumes.named(name);
        let mut wanted: BTreeSet<String> =
            known.iter().flat_map(|known| known.directories.iter().cloned()).collect();
        if self.options.placement.volumes().any(|used| used == name) {
            wanted.extend(self.options.placement.directories());
        }
        volume.look_at_all(&wanted.into_iter().collect::<Vec<_>>()).await
    }

    /// Judges what was seen of a volume, and lets it take part if that is right.
    pub(super) async fn settle_identity(
        &self,
        name: &str,
        known: Option<&Known>,
        look: Look,
    ) -> Result<Standing, IndexError> {
        let Some(owner) = self.owner() else { return Ok(Standing::Verified) };
        let seen = match look {
            Ok(seen) => seen,
            Err(error) => return Ok(Standing::Down(error)),
        };
        let (known_now, standing) = match self.decide(owner.store, name, known, &seen).await? {
            Decision::In { known, standing } => (known, standing),
            Decision::Out(standing) => return Ok(standing),
        };
        if seen.is_of(owner.store) && seen.owner.is_some_and(|file| !owner.knows(file.run)) {
            return Ok(Standing::Taken);
        }
        let volume = self.volumes.named(name);
        if let Err(error) = mark(&volume, &owner, &known_now, &seen).await {
            return Ok(Standing::Down(error));
        }
        // after the markers: a volume that the index knows has all of them
        if known != Some(&known_now) {
            self.index.set_known(name, &known_now).await?;
        }
        volume.admit(Expected { store: owner.store, known: known_now, owner: self.owner(), ended: false });
        Ok(match standing {
            Standing::Verified if self.volumes.addresses().is_followed(name) => {
                Standing::Followed(volume.address().to_owned())
            }
            standing => standing,
        })
    }

    async fn decide(
        &self,
        store: Id,
        name: &str,
        known: Option<&Known>,
        seen: &Seen,
    ) -> Result<Decision, IndexError> {
        // bound to the volume that is gone, so that the flag does nothing once it has done its work
        let replaced = known.map_or_else(|| name.to_owned(), |known| format!("{name}/{}", known.volume));
        let is_replaced = self.options.replaced.contains(&replaced);
        let refuse = |problem| Ok(Decision::Out(Standing::Refused { problem, replaced: replaced.clone() }));
        let first = |mut directories: Vec<String>| {
            directories.sort();
            Known { volume: self.random_id(), since: Timestamp::now(), directories }
        };
        match judge(store, name, known, &seen.found) {
            Verdict::Verified(known) => Ok(Decision::In { known, standing: Standing::Verified }),
            Verdict::Refused(problem) if is_replaced && problem.is_of_a_lost_disk() => {
                let directories = seen.found.iter().map(|(directory, _)| directory.clone()).collect();
                Ok(Decision::In { known: first(directories), standing: Standing::Replaced })
            }
            Verdict::Refused(problem) => refuse(problem),
            Verdict::Named(other) => {
                let is_used = self.options.placement.volumes().any(|used| used == other);
                refuse(Problem::Elsewhere { name: other, is_used })
            }
            Verdict::Unmarked { known, new, has_values } => {
                if !is_replaced && (known.is_none() || has_values) {
                    let volume = self.volumes.named(name);
                    match sample(&self.index, &volume, &new, has_values).await? {
                        Ok(None) => {}
                        Ok(Some(problem)) => return refuse(problem),
                        Err(error) => return Ok(Decision::Out(Standing::Down(error))),
                    }
                }
                let mut known = known.unwrap_or_else(|| first(Vec::new()));
                known.directories.extend(new);
                known.directories.sort();
                Ok(Decision::In { known, standing: Standing::Adopted })
            }
        }
    }
}

/// Writes the markers that don't say yet whose the volume is, and the owner file if it isn't that of this run.
async fn mark(volume: &Arc<Volume>, owner: &Owner, known: &Known, seen: &Seen) -> Result<(), VolumeError> {
    let (store, known_now, ours) = (owner.store, known.clone(), Some(owner.clone()));
    let mut expected = Expected { store, known: known_now, owner: ours, ended: false };
    let there = |directory: &str| seen.found.iter().find(|(at, _)| at == directory).map(|(_, found)| found);
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
    match volume.own(&expected).await {
        // a volume that takes nothing can still be read, and what is deleted there makes room
        Err(error) if error.is_refusal() => {
            tracing::warn!(volume = volume.name(), %error, "its owner file can't be written: another master wouldn't notice");
            Ok(())
        }
        written => written,
    }
}
