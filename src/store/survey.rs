//! What is looked at before a store is opened: whether a new index may be made, and where the disks are.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use crate::identity::{Seen, judge_for_a_new_index};
use crate::index::{Index, IndexError};
use crate::placement::Placement;
use crate::volume::{Addresses, Timeouts, VolumeError, Volumes};

/// Checks that no volume that answers belongs to a store, so that a new index hides nothing.
///
/// # Errors
///
/// One line for the operator: whose the volume is, and what to do.
pub async fn check_for_a_new_index(
    placement: &Placement,
    addresses: &Addresses,
    timeouts: Timeouts,
) -> Result<(), String> {
    let answered: Vec<_> = Survey::of(placement, addresses, timeouts).await.answered().collect();
    if answered.is_empty() {
        return Err(
            "there is no index at --db, and no volume answers: check both; a new index is made once one does"
                .into(),
        );
    }
    for (name, seen) in answered {
        judge_for_a_new_index(&seen.found).map_err(|problem| format!("the volume {name}: {problem}"))?;
    }
    Ok(())
}

/// Where the volumes are, if the disks of some were swapped: a volume whose marker is found at exactly one of the
/// addresses, which isn't its own, is there.
///
/// # Errors
///
/// The index can't be read.
pub async fn follow(
    index: &Index,
    placement: &Placement,
    addresses: Addresses,
    timeouts: Timeouts,
) -> Result<Addresses, IndexError> {
    let Some(owner) = index.owner().await? else { return Ok(addresses) };
    let mut seen_at: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, seen) in Survey::of(placement, &addresses, timeouts).await.answered() {
        let mut markers = seen.markers();
        // all of them say the same, or it is none of the store's volumes
        if let Some(first) = markers.next().filter(|one| one.store == owner.store)
            && markers.all(|other| (other.store, &other.name) == (first.store, &first.name))
        {
            seen_at.entry(first.name.clone()).or_default().push(name);
        }
    }
    let mut followed = addresses.clone();
    for name in placement.volumes() {
        if let Some([there]) = seen_at.get(name).map(Vec::as_slice)
            && there != name
        {
            followed.follow(name, addresses.of(there).to_owned());
        }
    }
    Ok(followed)
}

/// What is seen of all volumes, by name and in the order of the names.
pub struct Survey(pub Vec<(String, Look)>);

/// What is seen of a volume, or why it can't be looked at.
pub type Look = Result<Seen, VolumeError>;

impl Survey {
    /// Looks at all of them.
    pub async fn of(placement: &Placement, addresses: &Addresses, timeouts: Timeouts) -> Self {
        let volumes = Volumes::new(addresses.clone(), timeouts);
        let looks = placement.volumes().map(|name| {
            let volume = volumes.named(name);
            async move { (name.to_owned(), volume.look_at_all(&placement.directories()).await) }
        });
        Self(join_all(looks).await)
    }

    /// The volumes that answer. Others are looked at once they do.
    pub(crate) fn answered(self) -> impl Iterator<Item = (String, Seen)> {
        self.0.into_iter().filter_map(|(name, look)| Some((name, look.ok()?)))
    }
}
