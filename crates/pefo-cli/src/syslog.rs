//! The system's log: a datagram a line to the socket that `[log] syslog` names, as logger(1) sends it (RFC 3164
//! without a time, which the receiver knows better than who has no time zone). Never waited for: a log that takes
//! nothing holds up no transfer.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use pefo_core::{Error, Result};

use crate::host::Host;
use crate::original::Status;

/// The facility of daemons.
const DAEMON: u8 = 3;
/// Longer lines are cut; daemons cut them at 8 KiB by themselves.
const MAX_BYTES: usize = 4096;

/// Sends a line where a log is configured; that it cannot be sent is logged.
pub fn send(host: &Host, status: Status, line: &str) {
    let Some(socket) = &host.config.log.syslog else {
        return;
    };
    if let Err(error) = send_to(socket, status, line) {
        tracing::warn!(%error, "the system's log was not told");
    }
}

fn send_to(socket: &Path, status: Status, line: &str) -> Result<()> {
    let fail = |error| Error::io("write to", socket, error);
    let sender = UnixDatagram::unbound().map_err(fail)?;
    sender.set_nonblocking(true).map_err(fail)?;
    let message = message(status, std::process::id(), line);
    sender
        .send_to(message.as_bytes(), socket)
        .map(drop)
        .map_err(fail)
}

fn message(status: Status, process: u32, line: &str) -> String {
    let severity = match status {
        Status::Success => 6,
        Status::Warning => 4,
        Status::Failure => 3,
    };
    let mut message = format!("<{}>pefo[{process}]: {line}", DAEMON * 8 + severity);
    let mut end = MAX_BYTES.min(message.len());
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_arrives_with_the_priority_that_its_status_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = UnixDatagram::bind(&path).unwrap();
        let mut told = Vec::new();
        for status in [Status::Success, Status::Warning, Status::Failure] {
            send_to(&path, status, "PE_FAILOVER: x").unwrap();
            let mut bytes = [0; 200];
            let length = log.recv(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            told.push(text.replace(&std::process::id().to_string(), "N"));
        }
        assert_eq!(
            told,
            ["<30>", "<28>", "<27>"].map(|it| format!("{it}pefo[N]: PE_FAILOVER: x"))
        );
    }

    #[test]
    fn a_log_that_takes_nothing_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(send_to(&path, Status::Success, "x").is_err());
        let _full = UnixDatagram::bind(&path).unwrap();
        let mut lines = 0..100_000;
        assert!(lines.any(|_| send_to(&path, Status::Success, "x").is_err()));
    }

    #[test]
    fn a_long_line_is_cut_between_letters() {
        let message = message(Status::Success, 1, &"ä".repeat(5000));
        assert!((MAX_BYTES - 2..=MAX_BYTES).contains(&message.len()));
    }
}
