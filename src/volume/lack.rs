//! What this machine may lack for a connection: that is no fault of the volume.

use std::fmt;
use std::io;

use crate::logs::Seldom;

/// What a connection needs and this machine doesn't have at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Descriptors: of this process, or of all.
    Descriptors,
    /// Ports of its own.
    Ports,
    /// Memory.
    Memory,
}

impl Lack {
    /// What a connection failed for, if it was this machine's lack.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error()? {
            libc::EMFILE | libc::ENFILE => Some(Self::Descriptors),
            libc::EADDRNOTAVAIL => Some(Self::Ports),
            libc::ENOBUFS | libc::ENOMEM => Some(Self::Memory),
            _ => None,
        }
    }

    /// Logs it, but not for each of the many connections that fail for it.
    pub(super) fn log(self) {
        static LINE: Seldom = Seldom::new();
        let Some(times) = LINE.due() else { return };
        let remedy = match self {
            Self::Descriptors => {
                "raise the limit of open files (ulimit -n, systemd's LimitNOFILE), or lower --connections"
            }
            Self::Ports => "widen net.ipv4.ip_local_port_range, or lower --connections",
            Self::Memory => "give the machine more, or lower --connections",
        };
        tracing::error!(times, remedy, "the master lacks {self} for connections to volumes");
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "descriptors",
            Self::Ports => "ports",
            Self::Memory => "memory",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_told_from_what_the_volume_refuses() {
        let of = |number| Lack::of(&io::Error::from_raw_os_error(number));
        assert_eq!(of(libc::EMFILE), Some(Lack::Descriptors));
        assert_eq!(of(libc::ENFILE), Some(Lack::Descriptors));
        assert_eq!(of(libc::EADDRNOTAVAIL), Some(Lack::Ports));
        assert_eq!(of(libc::ENOBUFS), Some(Lack::Memory));
        assert_eq!(of(libc::ENOMEM), Some(Lack::Memory));
        assert_eq!(of(libc::ECONNREFUSED), None);
        assert_eq!(of(libc::EHOSTUNREACH), None);
    }
}
