//! Which volumes hold a key: rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings
//! to increase hit rates", 1998), as in minikeyvalue's `key2volume`.
//!
//! Each volume's score for a key is MD5(key ‖ volume); the volumes are ranked by descending score, and
//! the first healthy ones hold the value. Adding or removing a volume moves only the values that
//! gain or lose it. Subvolumes (directories `sv00`…) spread a volume's files over several disks.

use std::fmt;
use std::sync::Arc;

use md5_lanes::Md5;

use crate::key::Key;

/// The volume and subvolume of a file: the volume's name, with `/svXX` where there are subvolumes. A volume's name
/// is its address unless the operator gives it another, so minikeyvalue's `HOST:PORT/svXX` has this form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Arc<str>);

impl Place {
    /// From `NAME[/svXX]`.
    #[must_use]
    pub fn new(place: &str) -> Self {
        Self(Arc::from(place))
    }

    /// A subvolume of a volume, by number; the volume itself if it has only one.
    fn in_subvolume(volume: &str, number: u32, subvolumes: u32) -> Self {
        if subvolumes == 1 { Self::new(volume) } else { Self::new(&format!("{volume}/sv{number:02X}")) }
    }

    /// The volume's name.
    #[must_use]
    pub fn volume(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(volume, _)| volume)
    }

    /// The path of the subvolume, `/svXX`, or nothing.
    #[must_use]
    pub fn directory(&self) -> &str {
        self.0.get(self.volume().len()..).unwrap_or_default()
    }

    /// `NAME[/svXX]`.
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

/// The volumes, and how values are placed on them.
#[derive(Clone, Debug)]
pub struct Placement {
    volumes: Vec<Volume>,
    /// Number of replicas of each value, at least 1 and at most the number of volumes.
    pub replicas: usize,
}

/// A volume with its places precomputed, so that ranking a key only clones them.
#[derive(Clone, Debug)]
struct Volume {
    name: String,
    /// One for each subvolume, at least one.
    places: Vec<Place>,
}

/// A volume's score for a key; the highest is best.
type Score = [u8; 16];

impl Placement {
    /// Places values on the volumes of these names, each with 1 to 256 subvolumes. The order of the names doesn't
    /// matter, their spelling does.
    #[must_use]
    pub fn new(names: Vec<String>, replicas: usize, subvolumes: u32) -> Self {
        let volume = |name: String| {
            let place = |number| Place::in_subvolume(&name, number, subvolumes);
            Volume { places: (0..subvolumes).map(place).collect(), name }
        };
        Self { volumes: names.into_iter().map(volume).collect(), replicas }
    }

    /// The volumes' names.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().map(|volume| volume.name.as_str())
    }

    /// The subvolumes that each volume has, `/svXX`; nothing for the volume itself.
    #[must_use]
    pub fn directories(&self) -> Vec<String> {
        let places = self.volumes.first().map(|volume| volume.places.as_slice()).unwrap_or_default();
        places.iter().map(|place| place.directory().to_owned()).collect()
    }

    /// The key's place on each volume, the best first.
    #[must_use]
    pub fn rank(&self, key: &Key) -> Vec<Place> {
        self.ranked(key).cloned().collect()
    }

    /// The places of the key's replicas when all volumes are healthy: the first `replicas` of its rank.
    #[must_use]
    pub fn wanted(&self, key: &Key) -> Vec<Place> {
        self.ranked(key).take(self.replicas).cloned().collect()
    }

    /// Whether these are the [`wanted`](Self::wanted) places.
    pub fn wants<'a>(&self, key: &Key, places: impl IntoIterator<Item = &'a Place>) -> bool {
        self.ranked(key).take(self.replicas).eq(places)
    }

    fn ranked(&self, key: &Key) -> impl Iterator<Item = &Place> {
        let mut with_key = Md5::new();
        with_key.update(key.as_bytes());
        let score = |volume: &Volume| {
            let mut md5 = with_key.clone();
            md5.update(volume.name.as_bytes());
            md5.sum()
        };
        let mut scored: Vec<(Score, &Volume)> =
            self.volumes.iter().map(|volume| (score(volume), volume)).collect();
        scored.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        scored.into_iter().filter_map(place)
    }
}

/// The place on a volume of a key with this score.
fn place((score, volume): (Score, &Volume)) -> Option<&Place> {
    let [.., a, b, c, d] = score;
    let number = u32::from_be_bytes([a, b, c, d]) as usize % volume.places.len();
    volume.places.get(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test may panic")]

    use super::*;
    use proptest::prelude::*;

    fn placement(volumes: &[&str], replicas: usize, subvolumes: u32) -> Placement {
        Placement::new(volumes.iter().map(ToString::to_string).collect(), replicas, subvolumes)
    }

    fn wanted(key: &[u8], volumes: &[&str], replicas: usize, subvolumes: u32) -> Vec<String> {
        let places = placement(volumes, replicas, subvolumes).wanted(&Key::new(key));
        places.iter().map(ToString::to_string).collect()
    }

    /// Computed with `printf '%s%s' KEY VOLUME | md5sum`.
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
        #[test]
        fn the_order_of_the_volumes_is_irrelevant(key in "/[a-z]{1,9}") {
            let key = key.as_bytes();
            prop_assert_eq!(wanted(key, &["a:1", "b:1", "c:1"], 3, 10), wanted(key, &["c:1", "a:1", "b:1"], 3, 10));
        }

        #[test]
        fn the_wanted_places_are_the_first_of_the_rank(key in "/[a-z]{1,9}", volumes in 1..30_usize, replicas in 1..30_usize) {
            let (key, replicas) = (Key::new(key.as_bytes()), replicas.min(volumes));
            let placement = Placement::new((0..volumes).map(|n| format!("volume{n}:3001")).collect(), replicas, 10);
            let (mut rank, wanted) = (placement.rank(&key), placement.wanted(&key));
            prop_assert_eq!(rank.len(), volumes);
            prop_assert_eq!(&wanted, &rank[..replicas]);
            prop_assert!(placement.wants(&key, &wanted));
            prop_assert_eq!(placement.wants(&key, &rank), replicas == volumes);
            prop_assert!(!placement.wants(&key, &wanted[1..]));
            rank.swap(0, volumes - 1);
            prop_assert_eq!(placement.wants(&key, &rank[..replicas]), volumes == 1);
        }

        #[test]
        fn removing_a_volume_moves_only_its_replicas(key in "/[a-z]{1,9}", volumes in 4..30_usize, gone in 0..30_usize) {
            let all: Vec<String> = (0..volumes).map(|n| format!("volume{n}:3001")).collect();
            let gone = gone % volumes;
            let fewer: Vec<String> = all.iter().enumerate().filter(|(n, _)| *n != gone).map(|(_, v)| v.clone()).collect();
            let place = |volumes: &[String]| {
                Placement::new(volumes.to_vec(), 3, 10).wanted(&Key::new(key.as_bytes()))
            };
            let (before, after) = (place(&all), place(&fewer));
            let stayed = before.iter().filter(|p| after.contains(p)).count();
            let had_it = before.iter().any(|p| Some(p.volume()) == all.get(gone).map(String::as_str));
            prop_assert_eq!(stayed, if had_it { 2 } else { 3 });
        }
    }
}
