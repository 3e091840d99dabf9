//! The one way through: active: snapshot → generation → transfer; passive: verify → plan → apply → ack.
//!
//! [`push`] and [`apply`] are the same for every data set; [`ca`], [`nc`], [`files`], [`db`] and [`code`] say what a data
//! set is made of and hand it to its library. [`question`] is what the active asks of the passive's root, [`requests`] how that answers.

pub mod ack;
pub mod apply;
pub mod ca;
pub mod code;
pub mod db;
pub mod drill;
pub mod files;
pub mod kept;
pub mod nc;
pub mod push;
pub mod question;
pub mod received;
pub mod requests;
pub mod rollback;
pub mod scratch;
pub mod services;
pub mod session;
pub mod steps;
pub mod verify;
pub mod watch;

use pefo_core::{Error, ErrorKind, Result};

/// Runs an asynchronous library to its end.
///
/// # Errors
/// `Io` where no runtime can be made, or what `future` says.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Io, "start the asynchronous runtime").with_source(error)
        })?
        .block_on(future)
}
