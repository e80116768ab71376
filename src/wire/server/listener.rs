//! The ports that the master listens on: opened here, or handed over by systemd.
//!
//! A socket of systemd's stays open while one master ends and the next one starts, and connections wait in it.

use std::env;
use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{FromRawFd as _, IntoRawFd as _, RawFd};
use std::process;
use std::sync::{LazyLock, Mutex, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// The first descriptor that systemd passes on (see `sd_listen_fds(3)`).
const FIRST_PASSED: RawFd = 3;

/// The sockets that this process was started with, and that nobody has taken yet.
static PASSED: LazyLock<Mutex<Vec<net::TcpListener>>> = LazyLock::new(|| Mutex::new(passed()));

/// Opens the port: on that address, or on all of them. A socket of that port which this process was started with is
/// taken instead, whatever its address.
///
/// # Errors
///
/// The operating system's, such as an address in use.
pub fn listen(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    if let Some(listener) = take_passed(port) {
        listener.set_nonblocking(true)?;
        return TcpListener::from_std(listener);
    }
    match address {
        Some(address) => bind(SocketAddr::new(address, port), false),
        // one socket for both families, where the machine has the newer one
        None => bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), true).or_else(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                return Err(error);
            }
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), false)
        }),
    }
}

fn bind(address: SocketAddr, both_families: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if both_families {
        socket.set_only_v6(false)?;
    }
    // a restart need not wait for the connections of the run before
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn take_passed(port: u16) -> Option<net::TcpListener> {
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |listener: &net::TcpListener| listener.local_addr().is_ok_and(|at| at.port() == port);
    let at = passed.iter().position(is_it)?;
    Some(passed.swap_remove(at))
}

#[expect(unsafe_code, reason = "the numbers of descriptors come in variables of the environment")]
fn passed() -> Vec<net::TcpListener> {
    let number = |name| env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0);
    let mut listeners = Vec::new();
    for descriptor in FIRST_PASSED..FIRST_PASSED.saturating_add(count) {
        // SAFETY: it was passed to this process for its own use, and this runs once.
        let listener = unsafe { net::TcpListener::from_raw_fd(descriptor) };
        if listener.local_addr().is_ok() {
            listeners.push(listener);
        } else {
            // something else, which isn't ours to close
            let _number = listener.into_raw_fd();
        }
    }
    listeners
}
