//! What runs until it is told to stop: SIGTERM and SIGINT are that word.

use std::sync::Arc;
use std::time::Duration;

use pefo_core::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Heart;
use crate::outcome::Report;

/// How long what runs has to end by itself; what it was at is then left as after a kill, which harms nothing.
const GRACE: Duration = Duration::from_secs(15);

/// Runs `part` until it ends by itself or stop is said, which it finds in the heart.
///
/// # Errors
/// What `part` says; `Io` where signals cannot be listened to.
pub fn until_stopped(
    heart: &Arc<Heart>,
    part: impl FnOnce(&Heart) -> Result<Report> + Send + 'static,
) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Io, "start listening").with_source(error))?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
        );
        let (end, mut ended) = tokio::sync::oneshot::channel();
        let of_part = Arc::clone(heart);
        std::thread::spawn(move || drop(end.send(part(&of_part))));
        // It is gone without a word only where it has panicked, which was told by then.
        let lost = || Err(Error::new(ErrorKind::Io, "a thread has ended unforeseen"));
        let name = tokio::select! {
            told = &mut ended => return told.unwrap_or_else(|_| lost()),
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
        heart.notifier().stopping();
        heart.stop().cancel();
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!("something does not end; it is left as after a kill");
        }
        Ok(Report::ok(
            json!({ "stopped_by": name }),
            format!("stopped by {name}\n"),
        ))
    })
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::new(ErrorKind::Io, "listen for signals").with_source(error))
}
