//! What a service tells the systemd that has started it: ready, alive, how it does, stopping.
//!
//! sd_notify(3): a datagram of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names, a path or, with `@`, an
//! abstract name. Nobody waits for it and nothing rests on it: where it can't be sent, that is logged and all goes on.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Tells it, where there is somebody to tell.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Tells nobody.
    pub fn silent() -> Self {
        Self::default()
    }

    /// As the environment says, which `variable` reads; `process` is this process's id.
    pub fn of_environment(variable: impl Fn(&str) -> Option<OsString>, process: u32) -> Self {
        let Some(name) = variable("NOTIFY_SOCKET") else {
            return Self::silent();
        };
        let socket = address(&name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // Another process than this one may be meant: it has handed its environment down.
        let is_meant =
            variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(process.into());
        let watchdog = number("WATCHDOG_USEC").filter(|period| is_meant && *period > 0);
        match socket {
            Ok(socket) => Self {
                socket: Some(socket),
                watchdog: watchdog.map(Duration::from_micros),
            },
            Err(error) => {
                tracing::warn!(%error, socket = %name.to_string_lossy(), "the service manager is not told");
                Self::silent()
            }
        }
    }

    /// Within which time a sign of life is expected.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Whether anybody is told.
    pub fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// It does its part now.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// It is alive.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// It stops.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// How it does, in a line for people.
    pub fn status(&self, text: &str) {
        self.say(&format!("STATUS={}", text.replace('\n', " ")));
    }

    fn say(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, message, "the service manager was not told");
        }
    }
}

fn address(name: &OsStr) -> std::io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(variables: &[(&str, &str)]) -> Notifier {
        let find = |name: &str| {
            let mut all = variables.iter();
            let (_, value) = all.find(|(known, _)| *known == name)?;
            Some(OsString::from(value))
        };
        Notifier::of_environment(find, 42)
    }

    fn heard(socket: &UnixDatagram) -> String {
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn it_speaks_to_a_path_and_to_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let abstract_name = format!("pefo-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for (socket, name) in [
            (
                UnixDatagram::bind(&path).unwrap(),
                path.display().to_string(),
            ),
            (
                UnixDatagram::bind_addr(&address).unwrap(),
                format!("@{abstract_name}"),
            ),
        ] {
            let notifier = notifier(&[("NOTIFY_SOCKET", &name)]);
            assert!(notifier.is_heard());
            notifier.ready();
            notifier.status("passive\nin epoch 3");
            assert_eq!(heard(&socket), "READY=1");
            assert_eq!(heard(&socket), "STATUS=passive in epoch 3");
        }
    }

    #[test]
    fn a_watchdog_is_this_processs_or_nobodys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let path = path.display().to_string();
        let period = |more: &[(&str, &str)]| {
            let variables = [&[("NOTIFY_SOCKET", path.as_str())], more].concat();
            notifier(&variables).watchdog()
        };
        let (usec, second) = (("WATCHDOG_USEC", "1000000"), Duration::from_secs(1));
        assert_eq!(period(&[usec]), Some(second));
        assert_eq!(period(&[usec, ("WATCHDOG_PID", "42")]), Some(second));
        for none in [
            [usec, ("WATCHDOG_PID", "43")],
            [usec, ("WATCHDOG_PID", "x")],
            [("WATCHDOG_USEC", "0"), ("WATCHDOG_PID", "42")],
            [("WATCHDOG_USEC", "-1"), ("WATCHDOG_PID", "42")],
        ] {
            assert_eq!(period(&none), None, "{none:?}");
        }
    }

    #[test]
    fn nobody_to_tell_is_no_error() {
        for name in ["/nowhere/notify", "", "@"] {
            let notifier = notifier(&[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "1000000")]);
            notifier.ready();
            notifier.alive();
            assert_eq!(notifier.watchdog(), None, "{name}");
        }
        assert!(!notifier(&[]).is_heard());
    }
}
