//! All volumes, by name.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::link::Link;
use super::network::{self, Network};
use super::outcome::Timeouts;
use super::{Queues, VERIFY_EVERY, Volume};
use crate::placement::Place;

/// Where volumes are that have a name of their own: `HOST:PORT` by name. The name of every other volume is its
/// address, as in minikeyvalue.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    named: HashMap<String, String>,
    /// Names of volumes that were found at another address than their own.
    followed: HashSet<String>,
}

/// The volumes that were ever named, by a flag or by a record, under their names.
pub struct Volumes {
    network: Arc<dyn Network>,
    addresses: Addresses,
    timeouts: Timeouts,
    known: RwLock<HashMap<String, Arc<Volume>>>,
    /// How often the identity of a volume is looked at while it is up; `None` where volumes are taken as they are.
    verify_every: Option<Duration>,
    queues: Queues,
}

impl Volumes {
    /// No volume yet; one comes into being when it is first asked for.
    #[must_use]
    pub fn new(addresses: Addresses, timeouts: Timeouts) -> Self {
        Self::over(Arc::new(network::Tcp::new(timeouts)), addresses, timeouts)
    }

    /// As [`Volumes::new`], over another network than TCP.
    pub(crate) fn over(network: Arc<dyn Network>, addresses: Addresses, timeouts: Timeouts) -> Self {
        Self {
            network,
            addresses,
            timeouts,
            known: RwLock::default(),
            verify_every: None,
            queues: Queues::default(),
        }
    }

    /// Lets a volume take part only once it is admitted, and looks at its identity now and then.
    #[must_use]
    pub fn verified(self) -> Self {
        self.verified_every(VERIFY_EVERY)
    }

    /// As [`Volumes::verified`], and says how often.
    pub(crate) fn verified_every(self, every: Duration) -> Self {
        Self { verify_every: Some(every), ..self }
    }

    /// The pause between looks at volumes that take no part: ten times as often as at those that do.
    pub(crate) fn look_every(&self) -> Duration {
        self.verify_every.unwrap_or(VERIFY_EVERY) / 10
    }

    /// Whether volumes take part only once they are admitted.
    pub(crate) fn are_verified(&self) -> bool {
        self.verify_every.is_some()
    }

    /// Waits until the identity of a volume is to be looked at, and returns its name.
    pub(crate) async fn unverified(&self) -> String {
        self.queues.unverified.next().await
    }

    /// Waits until a volume that was away has files in doubt, and returns its name.
    pub(crate) async fn doubtful(&self) -> String {
        self.queues.doubtful.next().await
    }

    /// The volume of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Arc<Volume> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(volume) = known.get(name) {
            return Arc::clone(volume);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let volume = known.entry(name.to_owned()).or_insert_with(|| {
            let address = self.addresses.of(name);
            if self.are_verified() {
                self.queues.unverified.note(name);
            }
            let link = Link::new(Arc::clone(&self.network), address, self.timeouts);
            Arc::new(Volume::new(name, link, self.verify_every, self.queues.clone()))
        });
        Arc::clone(volume)
    }

    /// Where the volumes are.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until a volume that was down is up again, and returns its name. A volume that comes and goes
    /// is told of every few seconds at most.
    pub async fn returned(&self) -> String {
        self.queues.returns.next().await
    }
}

impl Addresses {
    /// Volumes by name and address.
    #[must_use]
    pub fn new(named: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { named: named.into_iter().collect(), followed: HashSet::new() }
    }

    /// Has the volume of that name at another address than its own, where it was found.
    pub fn follow(&mut self, name: &str, address: String) {
        self.named.insert(name.to_owned(), address);
        self.followed.insert(name.to_owned());
    }

    /// Whether the volume of that name was found at another address than its own.
    #[must_use]
    pub fn is_followed(&self, name: &str) -> bool {
        self.followed.contains(name)
    }

    /// `HOST:PORT` of the volume of that name.
    #[must_use]
    pub fn of<'a>(&'a self, name: &'a str) -> &'a str {
        self.named.get(name).map_or(name, String::as_str)
    }

    /// `HOST:PORT[/svXX]` of that place.
    #[must_use]
    pub fn of_place<'a>(&'a self, place: &'a Place) -> Cow<'a, str> {
        match self.named.get(place.volume()) {
            None => Cow::Borrowed(place.as_str()),
            Some(address) => Cow::Owned(format!("{address}{}", place.directory())),
        }
    }
}
