//! The health endpoint: load balancers ask which master serves, and whether the spare is in step.
//!
//! Plain HTTP, read-only, told from this host's own state. An answer costs a look at the clock; the files are
//! looked at only while somebody asks, at most five times a second, and read again only where they have changed.
//! Lag is counted at the moment of the answer. Nobody who is slow, half silent or many keeps others from being
//! answered ([`server`]).
//!
//! An address that cannot be listened on takes nothing else down: it is tried again, and told in the log and by
//! `pefo status` ([`problem`]).

mod answer;
mod problem;
mod server;
mod view;

use std::sync::Arc;
use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::{Error, ErrorKind};

pub use self::problem::problem;
use self::server::Shared;
use crate::host::Host;

/// An address that cannot be listened on is tried again after this, and after twice as long each time.
const FIRST_AGAIN: Duration = Duration::from_secs(1);
/// And after no more than this.
const LAST_AGAIN: Duration = Duration::from_secs(60);
/// How often it is looked whether stop was said.
const NOTICE: Duration = Duration::from_secs(1);

/// Answers until stop is said; returns at once where the configuration names no address.
pub fn serve(host: &Host, cancel: &Cancel) {
    let Some(settings) = &host.config.health else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return tracing::error!(%error, "the health endpoint cannot be served");
        }
    };
    runtime.block_on(async {
        let mut again = FIRST_AGAIN;
        while !cancel.is_cancelled() {
            let failed = match tokio::net::TcpListener::bind(settings.listen.as_str()).await {
                Ok(listener) => {
                    problem::over(host);
                    tracing::info!(listen = %settings.listen, "the health endpoint answers");
                    return server::serve(listener, Shared::new(Arc::new(host.clone())), cancel)
                        .await;
                }
                Err(error) => error,
            };
            let error = Error::new(
                ErrorKind::Io,
                format!("listen on {}: {failed}", settings.listen),
            );
            tracing::warn!(%error, again_in = ?again, "the health endpoint does not answer");
            problem::note(host, &settings.listen, &failed.to_string());
            let waited = tokio::time::Instant::now();
            while waited.elapsed() < again && !cancel.is_cancelled() {
                tokio::time::sleep(NOTICE.min(again)).await;
            }
            again = (again * 2).min(LAST_AGAIN);
        }
    });
    // A look-up of a name that hangs is nobody's to wait for.
    runtime.shutdown_background();
}
