//! Whose the volumes are, as their markers say: a rebuild takes their word for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Options;
use crate::clock::Timestamp;
use crate::identity::{Id, Known, Owner, Run, Verdict, judge};
use crate::index::{Index, IndexError};
use crate::store::{Survey, sample};
use crate::volume::{Volume, Volumes};

/// The store on the volumes, and what each of them says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    store: Id,
    volumes: BTreeMap<String, Known>,
    /// The last runs that had them.
    owners: Vec<Run>,
    /// Whether the volumes were written since with another index than the older one: what its intents say of files may be
    /// out of date.
    pub(super) is_older_outdated: bool,
}

/// Finds out whose the volumes are; `None` if none of them has a marker. A volume that can't be looked at is left out:
/// that its listing can't be read is told better by whoever reads all of it.
///
/// # Errors
///
/// One line for the operator: they belong to more than one store, a disk isn't mounted, or a volume has another name.
pub(super) async fn find(options: &Options, older_index: Option<&Index>) -> Result<Option<Identity>, String> {
    let text = |error: IndexError| error.to_string();
    let (older, known) = match older_index {
        Some(index) => (index.owner().await.map_err(text)?, index.known_volumes().await.map_err(text)?),
        None => (None, BTreeMap::new()),
    };
    let looks = Survey::of(&options.placement, &options.addresses, options.timeouts).await;
    let looks: Vec<_> = looks.answered().collect();
    let marker = looks.iter().find_map(|(_, seen)| seen.markers().next());
    let mut owners: Vec<Run> = Vec::new();
    for file in looks.iter().filter_map(|(_, seen)| seen.owner) {
        if !owners.contains(&file.run) {
            owners.push(file.run);
        }
    }
    let is_older_outdated = match (&older, older_index) {
        (Some(older), _) => owners.iter().any(|run| !older.knows(*run)) || older.own_from > 0,
        // minikeyvalue's, or one of davkv 0.1: whether it comes before the store's or after it, nothing tells
        (None, Some(_)) => marker.is_some(),
        (None, None) => false,
    };
    let is_older_last = older.is_some() && !is_older_outdated;
    let Some(store) = older.map(|owner| owner.store).or(marker.map(|marker| marker.store)) else {
        return Ok(None);
    };
    let volumes_there = Volumes::new(options.addresses.clone(), options.timeouts);
    let mut volumes = BTreeMap::new();
    for (name, seen) in looks {
        let refuse = |why: String| Err(format!("the volume {name}: {why}"));
        // an index that is out of date may mean a disk that was replaced since: then the markers are right
        let known = known.get(&name).filter(|_| !(is_older_outdated && seen.is_of(store)));
        match judge(store, &name, known, &seen.found) {
            Verdict::Verified(known) => drop(volumes.insert(name, known)),
            Verdict::Refused(problem) => return refuse(problem.to_string()),
            Verdict::Named(other) => {
                let address = options.addresses.of(&name);
                return refuse(format!(
                    "it is the volume {other} of this store: type {other}={address} in --volumes"
                ));
            }
            // new subvolumes, which the next master marks
            Verdict::Unmarked { known: Some(known), has_values: false, .. } => {
                volumes.insert(name, known);
            }
            Verdict::Unmarked { known, new, has_values } => {
                let volume = volumes_there.named(&name);
                if !is_to_be_adopted(older_index, is_older_last, &volume, &new, has_values).await? {
                    let place = new.first().filter(|new| !new.is_empty()).map_or("it", String::as_str);
                    return refuse(format!(
                        "{place} has no marker of the store {store}, which other disks have: mount the right disk, or \
                         leave it out; if the first start of a master was interrupted, name the index that it had with \
                         --from"
                    ));
                }
                volumes.extend(known.map(|known| (name, known)));
            }
        }
    }
    Ok(Some(Identity { store, volumes, owners, is_older_outdated }))
}

/// Whether a volume without markers in these subvolumes belongs to the store all the same: its adoption was interrupted,
/// or is still to come. Only the older index tells: without it, it may be a disk that isn't mounted, or another store's.
async fn is_to_be_adopted(
    older: Option<&Index>,
    is_older_last: bool,
    volume: &Arc<Volume>,
    new: &[String],
    has_values: bool,
) -> Result<bool, String> {
    match older {
        // one that is out of date may not know that it was adopted since
        Some(older) if has_values || is_older_last => {
            let sampled = sample(older, volume, new, has_values).await.map_err(|error| error.to_string())?;
            Ok(sampled.map_err(|error| format!("the volume {}: {error}", volume.name()))?.is_none())
        }
        _ => Ok(false),
    }
}

/// Checks that the volumes are those from before the walk.
///
/// # Errors
///
/// One line for the operator.
pub(super) fn check_unchanged(before: Option<&Identity>, now: Option<&Identity>) -> Result<(), String> {
    let agree = match (before, now) {
        (Some(before), Some(now)) => now.agrees(before),
        (Some(_), None) => false,
        (None, _) => true,
    };
    if agree { Ok(()) } else { Err("a disk was mounted or unmounted meanwhile: run this again".into()) }
}

impl Identity {
    /// Whether the volumes of both are the same ones, as far as both were looked at.
    fn agrees(&self, earlier: &Self) -> bool {
        let same = |(name, known): (&String, &Known)| self.volumes.get(name).is_none_or(|now| now == known);
        self.store == earlier.store && earlier.volumes.iter().all(same)
    }

    /// Notes whose it is in the new index. It knows of what was done before the walk: a master that ran meanwhile may have
    /// stored values that the walk missed.
    pub(super) async fn note(&self, index: &Index, before: Option<Self>) -> Result<(), IndexError> {
        let run = Run { line: Id::random(), number: 0 };
        let ancestors = before.map(|before| before.owners).unwrap_or_default();
        let (since, home) = (Timestamp::now(), index.home()?);
        let owner = Owner { store: self.store, since, run, home, ended: true, own_from: 0, ancestors };
        for (name, known) in &self.volumes {
            index.set_known(name, known).await?;
        }
        index.set_owner(&owner).await
    }
}
