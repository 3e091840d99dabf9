//! Who is told how this host does: Prometheus, hooks, the history. After each run that is recorded, and by daemons as
//! time passes, since a lag grows by itself.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::host::Host;
use crate::overview::Overview;
use crate::{alarms, history, metrics};

/// How often daemons tell it.
pub const EVERY: Duration = Duration::from_secs(15);

/// Tells all of them. What cannot be told is logged and fails nobody: what was done is done.
pub fn publish(host: &Host) {
    if !host.is_initialised() {
        return;
    }
    let told = match Overview::gather(host) {
        Ok(overview) => vec![
            metrics::write(host, &overview),
            history::sample(host, &overview),
            alarms::look(host, &overview),
        ],
        Err(error) => {
            // Whoever runs a command is told by the command, and whoever looks by pefo_up.
            tracing::debug!(%error, "how this host does cannot be told");
            vec![metrics::write_down(host)]
        }
    };
    for error in told.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "not all are told how this host does");
    }
}

/// Does `part`, and tells meanwhile.
pub fn while_in<T>(host: &Host, part: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (ended, ends) = mpsc::channel::<()>();
        scope.spawn(move || {
            loop {
                publish(host);
                match ends.recv_timeout(EVERY) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        let done = part();
        drop(ended);
        done
    })
}
