//! Which volumes hold a key: rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings
//! to increase hit rates", 1998), exactly as minikeyvalue's `key2volume` does it.
//!
//! Each volume's score for a key is MD5(key ‖ volume); the volumes are ranked by falling score, and
//! the first healthy ones hold the value. Adding or removing a volume moves only the values that
//! gain or lose it. The subvolume (a directory, `sv00`…) spreads a volume's files over several disks.

use std::fmt;
use std::sync::Arc;

use md5::{Digest, Md5};

use crate::key::Key;

/// Where on the volumes a file lies, without its path: `HOST:PORT`, and `/svXX` where there are
/// subvolumes. This is how the index, `Key-Volumes` and minikeyvalue write it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Arc<str>);

impl Place {
    /// Takes minikeyvalue's form, `HOST:PORT[/svXX]`.
    #[must_use]
    pub fn new(place: &str) -> Self {
        Self(Arc::from(place))
    }

    /// The subvolume of that number on a volume; none at all when there is only one.
    fn in_subvolume(volume: &str, number: u32, subvolumes: u32) -> Self {
        if subvolumes == 1 { Self::new(volume) } else { Self::new(&format!("{volume}/sv{number:02X}")) }
    }

    /// The volume's address, `HOST:PORT`.
    #[must_use]
    pub fn volume(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(volume, _)| volume)
    }

    /// The path of the subvolume, `/svXX`, or nothing.
    #[must_use]
    pub fn directory(&self) -> &str {
        self.0.get(self.volume().len()..).unwrap_or_default()
    }

    /// `HOST:PORT[/svXX]`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The volumes that values are placed on, and how.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Addresses of the volumes, `HOST:PORT`; their order doesn't matter, their spelling does.
    pub volumes: Vec<String>,
    /// Number of replicas of each value, at least 1 and at most the number of volumes.
    pub replicas: usize,
    /// Number of subvolumes of each volume, 1 to 256.
    pub subvolumes: u32,
}

impl Placement {
    /// All volumes' places for the key, the best first.
    #[must_use]
    pub fn rank(&self, key: &Key) -> Vec<Place> {
        let with_key = Md5::new().chain_update(key.as_bytes());
        let mut scores: Vec<([u8; 16], &str)> = self
            .volumes
            .iter()
            .map(|volume| (with_key.clone().chain_update(volume).finalize().into(), volume.as_str()))
            .collect();
        scores.sort_by(|(a, _), (b, _)| b.cmp(a));
        scores
            .into_iter()
            .map(|(score, volume)| {
                let [.., a, b, c, d] = score;
                let number = u32::from_be_bytes([a, b, c, d]) % self.subvolumes;
                Place::in_subvolume(volume, number, self.subvolumes)
            })
            .collect()
    }

    /// Where the key's value lies when all volumes are healthy: the first `replicas` of its rank.
    #[must_use]
    pub fn wanted(&self, key: &Key) -> Vec<Place> {
        let mut places = self.rank(key);
        places.truncate(self.replicas);
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn placement(volumes: &[&str], replicas: usize, subvolumes: u32) -> Placement {
        Placement { volumes: volumes.iter().map(ToString::to_string).collect(), replicas, subvolumes }
    }

    fn wanted(key: &[u8], volumes: &[&str], replicas: usize, subvolumes: u32) -> Vec<String> {
        let places = placement(volumes, replicas, subvolumes).wanted(&Key::new(key));
        places.iter().map(ToString::to_string).collect()
    }

    /// Worked out with `printf '%s%s' KEY VOLUME | md5sum`.
    #[test]
    fn places_are_minikeyvalues() {
        let volumes = ["larry", "moe", "curly"];
        assert_eq!(wanted(b"hello", &volumes, 1, 1), ["larry"]);
        assert_eq!(wanted(b"helloworld", &volumes, 1, 1), ["curly"]);
        assert_eq!(wanted(b"world", &volumes, 1, 1), ["moe"]);
        assert_eq!(wanted(b"blah", &volumes, 1, 1), ["curly"]);
        assert_eq!(wanted(b"hello", &volumes, 3, 10), ["larry/sv09", "curly/sv03", "moe/sv03"]);
        assert_eq!(wanted(b"hello", &volumes, 1, 256), ["larry/svCD"]);
    }

    #[test]
    fn a_place_has_a_volume_and_a_directory() {
        let place = Place::new("host:3001/sv0A");
        assert_eq!((place.volume(), place.directory()), ("host:3001", "/sv0A"));
        let place = Place::new("host:3001");
        assert_eq!((place.volume(), place.directory()), ("host:3001", ""));
    }

    proptest! {
        /// The order in which the volumes are given doesn't matter.
        #[test]
        fn order_is_irrelevant(key in "/[a-z]{1,9}") {
            let key = key.as_bytes();
            prop_assert_eq!(wanted(key, &["a:1", "b:1", "c:1"], 3, 10), wanted(key, &["c:1", "a:1", "b:1"], 3, 10));
        }

        /// A volume that comes or goes moves only the values that gain or lose it.
        #[test]
        fn only_what_must_moves(key in "/[a-z]{1,9}", volumes in 4..30_usize, gone in 0..30_usize) {
            let all: Vec<String> = (0..volumes).map(|n| format!("volume{n}:3001")).collect();
            let gone = gone % volumes;
            let fewer: Vec<String> = all.iter().enumerate().filter(|(n, _)| *n != gone).map(|(_, v)| v.clone()).collect();
            let place = |volumes: &[String]| {
                Placement { volumes: volumes.to_vec(), replicas: 3, subvolumes: 10 }.wanted(&Key::new(key.as_bytes()))
            };
            let (before, after) = (place(&all), place(&fewer));
            let stayed = before.iter().filter(|p| after.contains(p)).count();
            let had_it = before.iter().any(|p| Some(p.volume()) == all.get(gone).map(String::as_str));
            prop_assert_eq!(stayed, if had_it { 2 } else { 3 });
        }
    }
}
