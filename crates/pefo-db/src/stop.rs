//! The word to stop, for what waits without blocking.

use pefo_core::cancel::{Cancel, NOTICE};
use pefo_core::{Error, ErrorKind, Result};

/// Returns once stop is said, at most [`NOTICE`] later.
pub(crate) async fn said(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(NOTICE).await;
    }
}

/// The outcome of `work`, which is dropped once stop is said: for work that may end anywhere.
///
/// # Errors
/// Those of `work`; `Cancelled`.
pub(crate) async fn unless_said<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        outcome = work => outcome,
        () = said(cancel) => Err(Error::new(ErrorKind::Cancelled, "it was cancelled")),
    }
}

/// Says stop when dropped: what it was handed to does not outlive whoever waits for it.
#[derive(Debug, Default)]
pub(crate) struct OnDrop(pub(crate) Cancel);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
