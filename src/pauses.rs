//! How long everybody may pause in the middle of a value, in one place: each of these times follows from another.
//!
//! | who pauses | who loses patience | after |
//! |---|---|---|
//! | a client that sends | the master, with a 408 | `--clienttimeout` ([`CLIENT`]) |
//! | the master, as its client pauses or another volume does | nginx, without a word | `client_body_timeout` ([`BODY`]) |
//! | a client that reads | the master | [`READER`] |
//! | the master or a redirected client, when it reads | nginx, without a word | `send_timeout` ([`SEND`]) |
//! | a volume, in either direction | the master | `--streamtimeout` ([`STREAM`]) |
//!
//! The master must lose patience with its client before nginx loses it with the master, as it can tell the client why:
//! `--clienttimeout` and `--streamtimeout` together stay below [`BODY`], because a volume gets nothing while the client
//! pauses, nor while another volume of the same value takes nothing. [`READER`] stays below [`SEND`].
//!
//! A volume may have other times than ours, as minikeyvalue's has nginx's own, 60 s for both. A reader that pauses for
//! longer than its `send_timeout` costs another request, no replica ([`LET_GO`]).
//!
//! A test compares all this with `volume/nginx.conf.template`, `--help` and README.md.

use std::time::Duration;

/// How long a client that sends may pause, unless `--clienttimeout` says otherwise.
pub const CLIENT: &str = "30s";

/// How long a volume may pause, unless `--streamtimeout` says otherwise.
pub const STREAM: &str = "10s";

/// How long a client may pause that reads from the master: one that processes a large value while it reads does so now
/// and then.
pub const READER: Duration = Duration::from_mins(2);

/// nginx's `client_body_timeout`, in our template and by default.
pub const BODY: Duration = Duration::from_mins(1);

/// nginx's `send_timeout` in our template.
pub const SEND: Duration = Duration::from_secs(150);

/// A volume that ends a value midway may have been let go by its reader, if that didn't read for so long meanwhile:
/// the same replica is asked for the rest. nginx's times are whole seconds, and its timers up to 0.3 s early. (Who reads
/// slowly without a pause is let go, too: nginx hears of it only when a third of its socket's buffer is free again.)
pub const LET_GO: Duration = Duration::from_millis(500);

/// Checks that volumes lose patience with an upload later than the master.
///
/// # Errors
///
/// One line that says what to type instead.
pub fn check(client: Duration, stream: Duration) -> Result<(), String> {
    if client.checked_add(stream).is_some_and(|both| both < BODY) {
        return Ok(());
    }
    let (body, second) = (BODY.as_secs(), Duration::from_secs(1));
    let remedy = match BODY.checked_sub(stream.saturating_add(second)).filter(|most| !most.is_zero()) {
        Some(most) => format!("type --clienttimeout {}s or less", most.as_secs()),
        None => format!("type --streamtimeout {STREAM}"),
    };
    Err(format!(
        "--clienttimeout {} and --streamtimeout {} must be less than {body}s together, because a volume hangs up after \
         a pause of {body}s in an upload: {remedy}",
        humantime::format_duration(client),
        humantime::format_duration(stream),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use clap::CommandFactory as _;

    const TEMPLATE: &str = include_str!("../volume/nginx.conf.template");
    const README: &str = include_str!("../README.md");

    fn time(text: &str) -> Duration {
        humantime::parse_duration(text).unwrap()
    }

    /// The time that the template sets.
    fn of_nginx(directive: &str) -> Duration {
        let lines = TEMPLATE.lines().filter_map(|line| line.trim().strip_prefix(directive));
        let times: Vec<&str> = lines.map(|rest| rest.trim().trim_end_matches(';')).collect();
        assert_eq!(times.len(), 1, "{directive}");
        time(times.concat().as_str())
    }

    #[test]
    fn the_template_has_these_times() {
        assert_eq!(of_nginx("client_body_timeout "), BODY);
        assert_eq!(of_nginx("send_timeout "), SEND);
    }

    #[test]
    fn who_can_say_why_loses_patience_first() {
        assert!(time(CLIENT) + time(STREAM) < BODY && READER < SEND);
        assert_eq!(check(time(CLIENT), time(STREAM)), Ok(()));
    }

    #[test]
    fn help_and_readme_say_the_same() {
        let help = crate::config::Master::command().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let body = format!("less than {}s", BODY.as_secs());
        for (flag, default) in [("clienttimeout", CLIENT), ("streamtimeout", STREAM)] {
            let (_, of_flag) = help.split_once(&format!("--{flag} <TIME>")).unwrap();
            assert!(of_flag.split_once("[default: ").unwrap().1.starts_with(default), "{flag}: {of_flag}");
            assert!(README.contains(&format!("| `--{flag}` | {default} |")), "{flag}");
        }
        assert!(help.contains(&body) && README.contains(&body), "{body}");
        let minutes = READER.as_secs() / 60;
        assert!(minutes == 2 && README.contains("A reader may pause for at most two minutes"));
    }

    #[test]
    fn a_pause_that_a_volume_would_not_bear_is_refused_with_what_to_type() {
        let (second, ten) = (Duration::from_secs(1), Duration::from_secs(10));
        let rest = BODY.checked_sub(ten).unwrap();
        assert_eq!(check(rest.checked_sub(second).unwrap(), ten), Ok(()));
        let refusal = check(rest, ten).unwrap_err();
        assert!(refusal.contains("--clienttimeout 50s") && refusal.ends_with("--clienttimeout 49s or less"));
        assert!(check(second, BODY).unwrap_err().ends_with("type --streamtimeout 10s"));
        assert!(check(Duration::MAX, Duration::MAX).is_err());
    }
}
