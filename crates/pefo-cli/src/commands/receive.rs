//! `pefo receive`: one session of the peer's, as sshd's forced command, in the transfer account.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pefo_core::keys::{random_bytes, system_random};
use pefo_core::{Error, ErrorKind, Result};
use pefo_transport::receive::{self, IdleLimited, Limits, Origin, ReceiverOptions, Succession};

use crate::TOOL;
use crate::host::Host;
use crate::outcome::{Report, outcome_of};

/// How long a session may be silent.
const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Serves standard input and output; errors go to standard error, which ssh carries to the peer.
pub(super) fn run(config: &Path) -> ExitCode {
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let outcome = outcome_of(error.kind());
            let report = Report {
                outcome,
                ..Report::failed(error)
            };
            report.print("receive", false, true);
            ExitCode::from(report.code())
        }
    }
}

fn serve(config: &Path) -> Result<()> {
    let [connection, asked] = ["SSH_CONNECTION", "SSH_ORIGINAL_COMMAND"].map(|name| {
        let value = std::env::var_os(name)?;
        Some(value.to_string_lossy().into_owned())
    });
    let origin = Origin::new(connection.as_deref(), asked.as_deref());
    let allowed = receive::check_original_command(asked.as_deref());
    let host = match (Host::load(config), &allowed) {
        (Ok(host), _) => host,
        (Err(error), Ok(())) => return Err(error),
        (Err(_), Err(_)) => return allowed,
    };
    if let Err(error) = allowed {
        let spool = &host.config.site.spool_dir;
        let nothing = receive::Served::default();
        let (disk, clock) = (&host.disk, &*host.clock);
        // That it cannot be written down changes nothing about the answer.
        drop(receive::journal::record(
            disk,
            clock,
            spool,
            &origin,
            &nothing,
            Some(&error),
        ));
        return Err(error);
    }
    let me = host.introduction()?;
    let mut keys = vec![me.signing];
    keys.extend(host.peer_keys()?);
    let succession = Succession::new(host.clock.clone());
    let options = ReceiverOptions::new(
        host.config.site.spool_dir.clone(),
        host.station_path(),
        host.state("public/acks"),
        keys,
        me.site,
        me.certname,
        TOOL,
    )
    .answers(host.answers())
    .limits(Limits::default().keep(host.config.retention.generations))
    .secret(random_bytes(&system_random())?)
    .succession(succession.clone())
    .origin(origin);
    // A peer that says nothing for so long is gone, whatever TCP believes.
    let line = |stream: BorrowedFd<'_>| {
        let stream = stream.try_clone_to_owned().map_err(|error| {
            Error::new(ErrorKind::Io, "take standard input and output over").with_source(error)
        })?;
        let line = IdleLimited::new(File::from(stream), IDLE_LIMIT);
        Ok::<_, Error>(line.succession(succession.clone()))
    };
    let mut input = line(std::io::stdin().as_fd())?;
    let mut output = line(std::io::stdout().as_fd())?;
    let served = receive::serve(&mut input, &mut output, &options, &host.disk, &*host.clock)?;
    tracing::info!(?served, "session ended");
    Ok(())
}
