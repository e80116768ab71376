//! Whether a volume has room for values, as far as its answers show.
//!
//! A volume that had no room for a value counts as full until one is stored there. Values go to other volumes
//! meanwhile, but for one now and then that tries whether there is room again, after longer and longer pauses. (Nothing
//! else tells: stock nginx doesn't say how much room there is.)
//!
//! nginx says 500 where a disk is full, and also where a directory can't be written to. So after a 500 the first value of
//! another directory tries at once.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use tokio::time::Instant;

/// The pause before a full volume is tried for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// The pause doubles with each try, up to this.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The directory of a file, `[/svXX]/m0/m1`, as a hash. All files of a key lie in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directory(u64);

impl Directory {
    pub(super) fn of(path: &str) -> Self {
        let length = if path.starts_with("/sv") { "/svXX/m0/m1".len() } else { "/m0/m1".len() };
        let mut hasher = DefaultHasher::new();
        path.get(..length).unwrap_or(path).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// That there was no room for a value, as far as the answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacked {
    /// The volume said so.
    Surely,
    /// Or the directory can't be written to.
    OrDamaged(Directory),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    is_full: bool,
    /// If it isn't sure that the volume is full, the directory of the value that it didn't take.
    suspect: Option<Directory>,
    pause: Duration,
    /// Of a full volume, when it may be tried. Of another, until when it only seems to have room: a small value that
    /// found some doesn't mean that a large one does.
    until: Option<Instant>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { is_full: false, suspect: None, pause: FIRST_PAUSE, until: None }
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Notes that there was no room for a value; true if that is news.
    pub(super) fn lacked(&mut self, how: Lacked, now: Instant) -> bool {
        if self.is_full {
            return false;
        }
        // one that only seemed to have room is as full as it was
        self.suspect = None;
        if self.until.is_none_or(|until| until <= now) {
            self.pause = FIRST_PAUSE;
            if let Lacked::OrDamaged(directory) = how {
                self.suspect = Some(directory);
            }
        }
        (self.is_full, self.until) = (true, Some(now + self.pause));
        true
    }

    /// Notes that a value was stored; true if the volume was full.
    pub(super) fn shown(&mut self, now: Instant) -> bool {
        if self.is_full {
            (self.is_full, self.until) = (false, Some(now + self.pause));
            return true;
        }
        false
    }

    /// Whether a value in that directory shall try now if there is room again. Only one caller is told to in each pause,
    /// and one more at first where it isn't sure that the volume is full.
    pub(super) fn shall_try(&mut self, directory: Directory, now: Instant) -> bool {
        if !self.is_full {
            return false;
        }
        if self.suspect.take_if(|suspect| *suspect != directory).is_some() {
            return true;
        }
        let due = self.until.is_some_and(|until| until <= now);
        if due {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.until = Some(now + self.pause);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        Directory::of("/ab/cd/file")
    }

    #[test]
    fn a_directory_that_cannot_be_written_to_keeps_no_value_of_another_one_away() {
        let (mut room, now) = (Room::new(), Instant::now());
        let [damaged, other] = ["/sv0A/ab/cd", "/sv0A/ab/ce"].map(|at| [1, 2].map(|n| format!("{at}/{n}")));
        let [damaged, other] = [damaged, other].map(|paths| paths.map(|path| Directory::of(&path)));
        assert!(damaged[0] == damaged[1] && damaged[0] != other[0]);
        let lacked = Lacked::OrDamaged(damaged[0]);
        assert!(room.lacked(lacked, now) && room.is_full());
        assert!(!room.shall_try(damaged[1], now), "it would be refused again");
        assert!(room.shall_try(other[0], now) && !room.shall_try(other[1], now), "one caller");
        assert!(room.shown(now) && !room.is_full());
        // it may be a value that is small enough: this time, only a pause tells
        assert!(room.lacked(lacked, now) && !room.shall_try(other[0], now));
        let later = now + FIRST_PAUSE;
        assert!(room.shall_try(other[0], later) && room.shown(later));
        // long after that, another one is damaged
        let much_later = later + LONGEST_PAUSE;
        assert!(
            room.lacked(Lacked::OrDamaged(other[0]), much_later) && room.shall_try(damaged[0], much_later)
        );
        assert!(!room.lacked(lacked, much_later) && room.is_full(), "no news: it is full");
        assert!(!room.shall_try(damaged[0], much_later) && !room.shall_try(other[0], much_later));
    }

    #[test]
    fn a_full_volume_is_tried_after_longer_and_longer_pauses_until_it_shows_room() {
        let (mut room, mut now) = (Room::new(), Instant::now());
        assert!(!room.is_full() && !room.shall_try(directory(), now) && !room.shown(now));
        assert!(room.lacked(Lacked::Surely, now) && room.is_full());
        let mut pause = FIRST_PAUSE;
        for _ in 0..8 {
            assert!(!room.shall_try(directory(), now));
            now += pause;
            // no time alone makes room
            assert!(room.is_full());
            assert!(
                room.shall_try(directory(), now) && !room.shall_try(directory(), now),
                "one caller in each pause"
            );
            assert!(!room.lacked(Lacked::Surely, now), "no news");
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        assert_eq!(pause, LONGEST_PAUSE);
        assert!(room.shown(now) && !room.is_full() && !room.shall_try(directory(), now + LONGEST_PAUSE));
    }

    #[test]
    fn a_volume_that_is_soon_full_again_is_tried_as_seldom_as_before() {
        let (mut room, now) = (Room::new(), Instant::now());
        room.lacked(Lacked::Surely, now);
        let tried = now + FIRST_PAUSE;
        assert!(room.shall_try(directory(), tried) && room.shown(tried));
        assert!(room.lacked(Lacked::Surely, tried) && !room.shall_try(directory(), tried + FIRST_PAUSE));
        let again = tried + FIRST_PAUSE * 2;
        assert!(room.shall_try(directory(), again) && room.shown(again));
        let later = again + LONGEST_PAUSE;
        assert!(room.lacked(Lacked::Surely, later) && room.shall_try(directory(), later + FIRST_PAUSE));
    }
}
