//! Whether a volume has room for values, as far as its answers show.
//!
//! A volume that had no room for a value counts as full until one is stored there. Values go to other volumes
//! meanwhile, but for one now and then that tries whether there is room again, after longer and longer pauses. (Nothing
//! else tells: stock nginx doesn't say how much room there is.)

use std::time::Duration;

use tokio::time::Instant;

/// The pause before a full volume is tried for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// The pause doubles with each try, up to this.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    is_full: bool,
    pause: Duration,
    /// Of a full volume, when it may be tried. Of another, until when it only seems to have room: a small value that
    /// found some doesn't mean that a large one does.
    until: Option<Instant>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { is_full: false, pause: FIRST_PAUSE, until: None }
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Notes that there was no room for a value; true if that is news.
    pub(super) fn lacked(&mut self, now: Instant) -> bool {
        if self.is_full {
            return false;
        }
        if self.until.is_none_or(|until| until <= now) {
            self.pause = FIRST_PAUSE;
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

    /// Whether a value shall try now if there is room again. Only one caller is told to in each pause.
    pub(super) fn shall_try(&mut self, now: Instant) -> bool {
        let due = self.is_full && self.until.is_some_and(|until| until <= now);
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

    #[test]
    fn a_full_volume_is_tried_after_longer_and_longer_pauses_until_it_shows_room() {
        let (mut room, mut now) = (Room::new(), Instant::now());
        assert!(!room.is_full() && !room.shall_try(now) && !room.shown(now));
        assert!(room.lacked(now) && room.is_full());
        let mut pause = FIRST_PAUSE;
        for _ in 0..8 {
            assert!(!room.shall_try(now));
            now += pause;
            // no time alone makes room
            assert!(room.is_full());
            assert!(room.shall_try(now) && !room.shall_try(now), "one caller in each pause");
            assert!(!room.lacked(now), "no news");
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        assert_eq!(pause, LONGEST_PAUSE);
        assert!(room.shown(now) && !room.is_full() && !room.shall_try(now + LONGEST_PAUSE));
    }

    #[test]
    fn a_volume_that_is_soon_full_again_is_tried_as_seldom_as_before() {
        let (mut room, now) = (Room::new(), Instant::now());
        room.lacked(now);
        let tried = now + FIRST_PAUSE;
        assert!(room.shall_try(tried) && room.shown(tried));
        assert!(room.lacked(tried) && !room.shall_try(tried + FIRST_PAUSE));
        let again = tried + FIRST_PAUSE * 2;
        assert!(room.shall_try(again) && room.shown(again));
        let later = again + LONGEST_PAUSE;
        assert!(room.lacked(later) && room.shall_try(later + FIRST_PAUSE));
    }
}
