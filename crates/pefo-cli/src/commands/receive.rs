//! `pefo receive`: one session of the peer's, as sshd's forced command, in the transfer account.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pefo_core::{Error, ErrorKind, Result};
use pefo_transport::receive::{self, IdleLimited, Limits, ReceiverOptions};

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
    let asked = std::env::var_os("SSH_ORIGINAL_COMMAND")
        .map(|command| command.to_string_lossy().into_owned());
    receive::check_original_command(asked.as_deref())?;
    let host = Host::load(config)?;
    let me = host.introduction()?;
    let mut keys = vec![me.signing];
    keys.extend(host.peer_keys()?);
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
    .limits(Limits::default().keep(host.config.retention.generations));
    let stdin = std::io::stdin();
    let line = stdin.as_fd().try_clone_to_owned().map_err(|error| {
        Error::new(ErrorKind::Io, "take standard input over").with_source(error)
    })?;
    // A peer that says nothing for so long is gone, whatever TCP believes.
    let mut line = IdleLimited::new(File::from(line), IDLE_LIMIT);
    let served = receive::serve(
        &mut line,
        &mut std::io::stdout().lock(),
        &options,
        &host.disk,
        &*host.clock,
    )?;
    tracing::info!(?served, "session ended");
    Ok(())
}
