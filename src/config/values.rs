//! The values of flags: how each is read, and what is said of a wrong one.

use std::time::Duration;

use crate::identity::Id;

/// A volume server, as a flag names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The name by which values are placed and recorded.
    pub name: String,
    /// Where it is now, `HOST:PORT`.
    pub address: String,
}

/// Reads `HOST:PORT` or `NAME=HOST:PORT`.
pub(super) fn volume(text: &str) -> Result<Volume, String> {
    let Some((named, at)) = text.split_once('=') else {
        let address = address(text)?;
        return Ok(Volume { name: address.clone(), address });
    };
    Ok(Volume { name: name(named)?, address: address(at)? })
}

/// Checks the name of a volume. An address is one, too.
pub(super) fn name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(fits);
    let remedy = "a volume's name has letters, digits and -._: only, like disk1 or 10.0.0.1:3001";
    fits.then(|| text.to_owned()).ok_or_else(|| remedy.to_owned())
}

/// Checks for `NAME/ID`, or for the `NAME` of a volume that the index doesn't know yet.
pub(super) fn replaced(text: &str) -> Result<String, String> {
    let (named, id) = text.split_once('/').map_or((text, None), |(named, id)| (named, Some(id)));
    name(named)?;
    let is_id = id.is_none_or(|id| id.parse::<Id>().is_ok());
    is_id
        .then(|| text.to_owned())
        .ok_or_else(|| "type what the log says after --replaced, NAME/ID".to_owned())
}

/// Checks for `HOST` or `HOST:PORT`, as in a URL.
pub(super) fn address(text: &str) -> Result<String, String> {
    let fits = |text: &str| -> Option<()> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        if let Some(port) = port {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (digits && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(())?;
        }
        match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok().map(drop),
            None => (!host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)))
            .then_some(()),
        }
    };
    fits(text).map(|()| text.to_owned()).ok_or_else(|| "type HOST:PORT, like 10.0.0.1:3001".to_owned())
}

/// Checks for `*`, or a scheme and a host with an optional port, as browsers send origins.
#[cfg(feature = "s3")]
pub(super) fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fits = text == "*" || host.is_some_and(|host| address(host).is_ok());
    fits.then(|| text.to_owned()).ok_or_else(|| "type an origin like https://example.com, or *".to_owned())
}

/// A duration above zero, like `1s`, `500ms` or `10m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("type a time like 1s, 500ms or 10m".to_owned()),
    }
}

pub(super) fn duration_or_none(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_no_time| "type a time like 1s or 100ms, or 0s".to_owned())
}
