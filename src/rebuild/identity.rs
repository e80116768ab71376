//! Whose the volumes are, as their markers say: a rebuild takes their word for it.

use std::collections::BTreeMap;

use super::Options;
use crate::clock::Timestamp;
use crate::identity::{Id, Known, Owner, Run, Verdict, judge};
use crate::index::{Index, IndexError};
use crate::store::Survey;

/// The store on the volumes, and what each of them says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    store: Id,
    volumes: BTreeMap<String, Known>,
    /// The last runs that had them.
    pub(super) owners: Vec<Run>,
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
pub(super) async fn find(options: &Options, older: Option<&Index>) -> Result<Option<Identity>, String> {
    let text = |error: IndexError| error.to_string();
    let (older, known) = match older {
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
    let is_older_outdated =
        older.as_ref().is_some_and(|older| owners.iter().any(|run| !older.knows(*run)) || older.own_from > 0);
    let Some(store) = older.map(|owner| owner.store).or(marker.map(|marker| marker.store)) else {
        return Ok(None);
    };
    let mut volumes = BTreeMap::new();
    for (name, seen) in looks {
        let refuse = |why: String| Err(format!("the volume {name}: {why}"));
        match judge(store, &name, known.get(&name), &seen.found) {
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
            Verdict::Unmarked { new, .. } => {
                let place = new.first().filter(|new| !new.is_empty()).map_or("it", String::as_str);
                return refuse(format!(
                    "{place} has no marker of the store {store}, which other disks have: mount the right disk, or leave \
                     it out"
                ));
            }
        }
    }
    Ok(Some(Identity { store, volumes, owners, is_older_outdated }))
}

impl Identity {
    /// Whether the volumes of both are the same ones, as far as both were looked at.
    pub(super) fn agrees(&self, earlier: &Self) -> bool {
        let same = |(name, known): (&String, &Known)| self.volumes.get(name).is_none_or(|now| now == known);
        self.store == earlier.store && earlier.volumes.iter().all(same)
    }

    /// Notes whose it is in the new index, which knows of what the runs of `ancestors` have done.
    pub(super) async fn note(&self, index: &Index, ancestors: Vec<Run>) -> Result<(), IndexError> {
        let run = Run { line: Id::random(), number: 0 };
        let (since, home) = (Timestamp::now(), index.home()?);
        let owner = Owner { store: self.store, since, run, home, ended: true, own_from: 0, ancestors };
        for (name, known) in &self.volumes {
            index.set_known(name, known).await?;
        }
        index.set_owner(&owner).await
    }
}
