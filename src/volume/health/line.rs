//! Log lines about a volume's health.
//!
//! One line when a volume goes down or is full, and one when it is up again or has room. A volume that flaps (goes down again soon) gets
//! a line at its first, second, fourth, eighth … time, and one when it has stayed up.

use std::fmt::Display;
use std::time::Duration;

use humantime::{FormattedDuration, format_duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::volume) enum Line {
    Down,
    /// It had no room for a value.
    Full,
    /// It was full, and a value was stored.
    HasRoom,
    Up {
        down_for: Duration,
    },
    /// It went down again soon after it was up, for the `times`-th time.
    Flaps {
        times: u32,
        held_for: Duration,
    },
    /// It flapped, and now has stayed up.
    Steady {
        flapped: u32,
        since_first_down: Duration,
    },
}

impl Line {
    /// Logs the line; `error`, if any, is the reason.
    pub(in crate::volume) fn log(self, volume: &str, error: Option<&dyn Display>) {
        let error = error.map(tracing::field::display);
        match self {
            Self::Down => tracing::warn!(%volume, error, "volume is down"),
            Self::Full => {
                tracing::warn!(%volume, error, "volume is full, or can't be written: new values go to others");
            }
            Self::HasRoom => tracing::info!(%volume, "volume has room again"),
            Self::Up { down_for } => {
                tracing::info!(%volume, down_for = %rounded(down_for), "volume is up again");
            }
            Self::Flaps { times, held_for } => {
                let held_for = format_duration(held_for);
                tracing::warn!(%volume, times, %held_for, error, "volume flaps: it was up, and is down again");
            }
            Self::Steady { flapped, since_first_down } => {
                let since_first_down = rounded(since_first_down);
                tracing::info!(%volume, flapped, %since_first_down, "volume is up, and has stayed up");
            }
        }
    }
}

/// Rounds down to a tenth of a second.
fn rounded(duration: Duration) -> FormattedDuration {
    let tenths = u64::try_from(duration.as_millis() / 100).unwrap_or(u64::MAX);
    format_duration(Duration::from_millis(tenths.saturating_mul(100)))
}
