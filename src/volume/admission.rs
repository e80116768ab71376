//! Whether a volume takes part: it is let in once it is known whose it is, looked at now and then, and kept out as soon
//! as that is in doubt.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use hyper::Method;

use super::Volume;
use super::health::Step;
use super::identity::Expected;
use super::outcome::{Outcome, VolumeError};
use super::unseen::{InDoubt, Unseen};
use crate::identity::{Found, Marker, Owner, Seen};

/// A path that no key's file has: the answer to a probe of a volume without an identity is 404.
const PROBE: &str = "/00/00/probe";

impl Volume {
    /// Lets it take part, as long as its markers say this, and its owner file names no run that this one doesn't know.
    pub(crate) fn admit(self: &Arc<Self>, expected: Expected) {
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(expected));
        self.doubt();
        self.act(self.health.admitted(), None);
    }

    /// Lets it take part as it is, although it has no markers: for a program that writes nothing.
    pub(crate) fn admit_as_it_is(self: &Arc<Self>) {
        self.act(self.health.admitted(), None);
    }

    /// It was away: what was put since its markers were last seen is to be looked at again.
    fn doubt(&self) {
        if self.unseen.as_ref().is_some_and(Unseen::doubt) {
            self.queues.doubtful.note(&self.name);
        }
    }

    /// Takes the files that were put since its markers were last seen, when it was away.
    pub(crate) fn take_in_doubt(&self) -> InDoubt {
        self.unseen.as_ref().map(Unseen::take_in_doubt).unwrap_or_default()
    }

    /// Lets it take no part, until it is admitted again.
    pub(crate) fn bar(self: &Arc<Self>) {
        self.act(self.health.barred(), None);
        self.queues.unverified.note(&self.name);
    }

    /// What is found in these subvolumes, each `/svXX` or nothing, and in further ones that have a marker or files.
    /// Asks even a volume that takes no part.
    pub(crate) async fn look_at_all(&self, wanted: &[String]) -> Outcome<Seen> {
        let mut seen = Seen::default();
        for directory in wanted {
            seen.found.push((directory.clone(), self.link.look(directory).await?));
        }
        // where nothing is wanted, as for a volume that only old records name, what is there tells
        if wanted.is_empty() || !seen.found.iter().all(|(_, found)| matches!(found, Found::Marker(_))) {
            for directory in self.link.subvolumes().await?.into_iter().filter(|shown| !wanted.contains(shown))
            {
                let look = self.link.look(&directory).await?;
                if look != Found::Empty {
                    seen.found.push((directory, look));
                }
            }
        }
        // It is in the first of all subvolumes that the markers name, also of those that nobody asked for: in others may
        // be one from when there were fewer.
        let all: BTreeSet<String> =
            seen.markers().flat_map(|marker| marker.directories.iter().cloned()).collect();
        for directory in all {
            seen.owner = self.link.owner_file(&directory).await?;
            if seen.owner.is_some() {
                break;
            }
        }
        Ok(seen)
    }

    /// Whether a file lies at that path, also of a volume that takes no part yet.
    pub(crate) async fn shows(&self, path: &str) -> Outcome<bool> {
        self.link.shows(path).await
    }

    /// Writes the marker of its subvolume.
    pub(crate) async fn mark(&self, marker: &Marker) -> Outcome<()> {
        self.link.mark(marker).await
    }

    /// Writes its owner file: this run has it from now on.
    pub(crate) async fn own(&self, expected: &Expected) -> Outcome<()> {
        match expected.owner_file() {
            // without a marker, nobody reads it
            Some(file) if !expected.known.directories.is_empty() => {
                self.link.own(expected.first_directory(), file).await
            }
            _ => Ok(()),
        }
    }

    /// Notes what its owner file shall say from now on, if it takes part. [`Volume::verify`] writes it.
    pub(crate) fn change_owner(&self, owner: &Owner, ended: bool) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = expected.take() {
            let owner = Some(owner.clone());
            *expected = Some(Arc::new(Expected { owner, ended, ..Expected::clone(&before) }));
        }
    }

    /// Whether its owner file says that another program has taken it, or that this index is out of date.
    pub(crate) async fn is_taken(&self) -> bool {
        let Some(expected) = self.expected().filter(|_| !self.is_down()) else { return false };
        let there = self.link.owner_file(expected.first_directory()).await;
        // looked at again, as the number may have risen meanwhile
        there.is_ok_and(|there| self.expected().is_some_and(|expected| expected.is_taken(there)))
    }

    fn expected(&self) -> Option<Arc<Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fails if it takes no part.
    pub(super) fn check_admitted(&self) -> Outcome<()> {
        if self.is_out() { Err(VolumeError::Unverified) } else { Ok(()) }
    }

    /// After a 404: whether it is the word of the volume that is meant. A disk that isn't mounted has no file either.
    pub(super) async fn confirm(self: &Arc<Self>, path: &str) -> Outcome<()> {
        let Some(expected) = self.expected() else { return Ok(()) };
        let directory = path.get(..5).filter(|directory| directory.starts_with("/sv")).unwrap_or_default();
        // a file of a subvolume that has no marker: nobody can tell
        if !expected.known.directories.iter().any(|known| known == directory) {
            return Err(VolumeError::Unverified);
        }
        let meant = self.link.is_meant_at(&self.name, &expected, directory).await;
        if meant.map_err(|error| self.unanswered(error))? {
            return Ok(());
        }
        self.bar();
        Err(VolumeError::Unverified)
    }

    /// Probes the volume until it is up and has stayed so for a while.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            let (step, actions) = self.health.next_step();
            self.act(actions, None);
            match step {
                Step::Wait(until) => self.health.woken(until).await,
                Step::Probe => match self.probe().await {
                    Err(VolumeError::Unverified) => self.bar(),
                    Err(VolumeError::Lacking(_)) => self.act(self.health.not_probed(), None),
                    probed => self.act(self.health.probed(probed.is_ok()), probed.as_ref().err()),
                },
                Step::End => return,
            }
        }
    }

    /// Whether the volume answers at all, and is the one that is meant.
    async fn probe(&self) -> Outcome<()> {
        if self.expected().is_some() {
            return self.verify().await;
        }
        let status =
            self.link.exchange(self.link.timeouts.request, Method::HEAD, PROBE, None).await?.status();
        if status.is_server_error() { Err(VolumeError::Refused(status)) } else { Ok(()) }
    }

    /// Looks at its markers and its owner file, and writes the latter where it doesn't say what it shall.
    ///
    /// # Errors
    ///
    /// `Unverified`: it isn't the volume that is meant, or another program has taken it.
    pub(crate) async fn verify(&self) -> Outcome<()> {
        let Some(expected) = self.expected() else { return Err(VolumeError::Unverified) };
        let (was_down, so_far) = (self.is_down(), self.unseen.as_ref().map(Unseen::so_far));
        // first, as another program that takes the volume waits only so long for this one to notice
        let there = self.link.owner_file(expected.first_directory()).await?;
        if !self.link.is_meant(&self.name, &expected).await? {
            return Err(VolumeError::Unverified);
        }
        // the number of the run may have risen meanwhile
        let Some(expected) = self.expected() else { return Err(VolumeError::Unverified) };
        if expected.is_taken(there) {
            return Err(VolumeError::Unverified);
        }
        match (&self.unseen, so_far) {
            // its disk may have been away, too
            _ if was_down => self.doubt(),
            (Some(unseen), Some(so_far)) => unseen.seen(so_far),
            _ => {}
        }
        if there == expected.owner_file() {
            return Ok(());
        }
        // one that was lost, or is behind, or couldn't be written before; a volume that takes nothing goes on without it
        match self.own(&expected).await {
            Err(error) if error.is_refusal() => {
                tracing::debug!(volume = self.name, %error, "its owner file isn't written");
                Ok(())
            }
            written => written,
        }
    }
}
