//! What the service manager is told (systemd's `sd_notify(3)`): one datagram each, lost without harm.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The way to the service manager; without one nothing is said.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    way: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that we live.
    pub(super) watchdog: Option<Duration>,
}

impl Notifier {
    /// By `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub(super) fn from_environment() -> Notifier {
        let way = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let opened = open(&name);
            opened.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET cannot be used")).ok()
        });
        // Meant for another process (of ours that started us) if it names one.
        let ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let every = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).map(Duration::from_micros);
        Notifier { watchdog: every.filter(|every| ours && !every.is_zero() && way.is_some()), way }
    }

    /// Says it, each line `NAME=value`.
    pub(super) fn tell(&self, lines: &str) {
        let Some((socket, to)) = &self.way else { return };
        if let Err(error) = socket.send_to_addr(lines.as_bytes(), to) {
            tracing::debug!(%error, "the service manager is not told");
        }
    }

    /// All is bound and served.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read anew, until [`Notifier::ready`].
    pub(super) fn reloading(&self) {
        match clock_gettime(ClockId::CLOCK_MONOTONIC) {
            Ok(now) => {
                let now = Duration::from(now).as_micros();
                self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
            }
            Err(error) => tracing::debug!(%error, "no monotonic clock"),
        }
    }

    /// New calls are refused, and the end comes with the last one.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }
}

fn open(name: &OsString) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(Path::new(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, to))
}
