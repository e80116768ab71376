//! What is published of the machine, and who is woken.

use std::time::Duration;

use tokio::time::Instant;

use super::line::Line;
use super::machine::{Actions, Watch};
use super::{Access, Health};

const LONGEST_HOLD: Duration = Duration::from_mins(1);
const TRIAL: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn the_published_flags_match_the_machine() {
    let health = Health::new(None);
    assert!(health.is_good() && !health.is_down() && !health.is_silent() && !health.is_full());
    assert_eq!(health.failed("/a", Access::Read).watch, Some(Watch::Start));
    assert!(health.is_good() && health.failed_for(|| "/a".into()) && !health.failed_for(|| "/b".into()));
    assert_eq!(health.served("/a", Access::Read), Actions::default());
    assert!(!health.failed_for(|| unreachable!("no file fails any more")));
    assert_eq!(health.unanswered(), Actions::default());
    assert!(!health.is_good());
    assert_eq!(health.answered(), Actions::default());
    assert!(health.is_good());
    (0..3).for_each(|_| assert!(!health.is_down() && health.unanswered().watch.is_none()));
    assert!(health.is_down() && health.is_silent() && !health.is_good());
    assert_eq!(health.found_full("/a", true), Actions { line: Some(Line::Full), ..Actions::default() });
    assert!(health.is_full());
    tokio::time::advance(TRIAL).await;
    assert!(health.is_full() && health.shall_try(|| "/b".into()) && !health.shall_try(|| "/b".into()));
    assert_eq!(health.stored("/b").line, Some(Line::HasRoom));
    assert!(!health.is_full() && !health.shall_try(|| "/b".into()));
    assert_eq!(health.probed(true).line, Some(Line::Up { down_for: TRIAL }));
    assert!(health.is_good() && !health.is_down() && !health.is_silent());
}

#[tokio::test]
async fn gone_down_returns_when_the_volume_goes_down_and_at_once_if_it_is_down() {
    let health = Health::new(None);
    let fail = async { (0..3).for_each(|_| assert!(!health.unanswered().returned)) };
    tokio::join!(health.gone_down(), fail);
    health.gone_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_before_the_wait_is_not_lost() {
    let health = Health::new(None);
    health.wake();
    let now = Instant::now();
    health.woken(now + LONGEST_HOLD).await;
    assert_eq!(Instant::now(), now);
    health.woken(now + LONGEST_HOLD).await;
    assert_eq!(Instant::now(), now + LONGEST_HOLD);
}
