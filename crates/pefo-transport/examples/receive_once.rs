//! The smallest receiver: one session over standard input and output, then it ends.
//!
//! What an embedder needs for a forced command in `authorized_keys`:
//!
//! ```text
//! restrict,command="receive_once SPOOL STATION ACKS SITE CERTNAME KEY…" ssh-ed25519 AAAA…
//! ```

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use pefo_core::clock::SystemClock;
use pefo_core::disk::Disk;
use pefo_core::generation::Site;
use pefo_core::keys::{random_bytes, system_random};
use pefo_core::{Certname, Error, Result};
use pefo_transport::receive::IdleLimited;
use pefo_transport::{ReceiverOptions, check_original_command, serve};

#[expect(
    clippy::print_stderr,
    reason = "a program's last words; standard output is the line"
)]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program may read its environment"
)]
fn run() -> Result<()> {
    check_original_command(std::env::var("SSH_ORIGINAL_COMMAND").ok().as_deref())?;
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments.next().ok_or_else(|| {
            Error::invalid("usage: receive_once SPOOL STATION ACKS SITE CERTNAME KEY…")
        })
    };
    let (spool, station, acks) = (next()?, next()?, next()?);
    let (site, certname) = (Site::new(next()?)?, Certname::new(next()?)?);
    let keys = arguments
        .map(|key| key.parse())
        .collect::<Result<Vec<_>>>()?;
    let options = ReceiverOptions::new(spool, station, acks, keys, site, certname, "receive_once")
        .secret(random_bytes(&system_random())?);

    let descriptor = |fd: std::os::fd::BorrowedFd<'_>| {
        fd.try_clone_to_owned().map(File::from).map_err(|error| {
            Error::invalid("standard input or output is closed").with_source(error)
        })
    };
    let input = descriptor(std::io::stdin().as_fd())?;
    let mut output = descriptor(std::io::stdout().as_fd())?;
    let mut input = IdleLimited::new(input, Duration::from_secs(600));
    serve(
        &mut input,
        &mut output,
        &options,
        &Disk::new(),
        &SystemClock,
    )
    .map(drop)
}
