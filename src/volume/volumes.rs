//! All volumes, by name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::link::Link;
use super::names::Names;
use super::network::{self, Network};
use super::outcome::Timeouts;
use super::{VERIFY_EVERY, Volume};
use crate::placement::Place;

/// Where volumes are that have a name of their own: `HOST:PORT` by name. The name of every other volume is its
/// address, as in minikeyvalue.
#[derive(Clone, Debug, Default)]
pub struct Addresses(HashMap<String, String>);

/// The volumes that were ever named, by a flag or by a record, under their names.
pub struct Volumes {
    network: Arc<dyn Network>,
    addresses: Addresses,
    timeouts: Timeouts,
    known: RwLock<HashMap<String, Arc<Volume>>>,
    /// How often the identity of a volume is looked at while it is up; `None` where volumes are taken as they are.
    verify_every: Option<Duration>,
    returns: Arc<Names>,
    unverified: Arc<Names>,
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
            returns: Arc::default(),
            unverified: Arc::default(),
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
        self.unverified.next().await
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
                self.unverified.note(name);
            }
            let link = Link::new(Arc::clone(&self.network), address, self.timeouts);
            let (returns, unverified) = (Arc::clone(&self.returns), Arc::clone(&self.unverified));
            Arc::new(Volume::new(name, link, self.verify_every, returns, unverified))
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
        self.returns.next().await
    }
}

impl Addresses {
    /// Volumes by name and address.
    #[must_use]
    pub fn new(named: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(named.into_iter().collect())
    }

    /// Sets where the volume of that name is.
    pub fn set(&mut self, name: &str, address: String) {
        self.0.insert(name.to_owned(), address);
    }

    /// `HOST:PORT` of the volume of that name.
    #[must_use]
    pub fn of<'a>(&'a self, name: &'a str) -> &'a str {
        self.0.get(name).map_or(name, String::as_str)
    }

    /// `HOST:PORT[/svXX]` of that place.
    #[must_use]
    pub fn of_place<'a>(&'a self, place: &'a Place) -> Cow<'a, str> {
        match self.0.get(place.volume()) {
            None => Cow::Borrowed(place.as_str()),
            Some(address) => Cow::Owned(format!("{address}{}", place.directory())),
        }
    }
}
