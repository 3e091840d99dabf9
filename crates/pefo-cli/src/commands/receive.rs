//! `pefo receive`: one session of the peer's, as sshd's forced command, in the transfer account.

use std::path::Path;
use std::process::ExitCode;

use pefo_core::Result;
use pefo_transport::receive::{self, Limits, ReceiverOptions};

use crate::TOOL;
use crate::host::Host;
use crate::outcome::{Report, outcome_of};

/// Serves standard input and output; errors go to standard error, which ssh carries to the peer.
pub(super) fn run(config: &Path) -> ExitCode {
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let outcome = outcome_of(error.kind());
            let report = Report { outcome, ..Report::failed(error) };
            report.print("receive", false, true);
            ExitCode::from(report.code())
        }
    }
}

fn serve(config: &Path) -> Result<()> {
    let asked = std::env::var_os("SSH_ORIGINAL_COMMAND").map(|command| command.to_string_lossy().into_owned());
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
    .limits(Limits::default().keep(host.config.retention.generations));
    let served = receive::serve(&mut std::io::stdin().lock(), &mut std::io::stdout().lock(), &options, &host.disk, &*host.clock)?;
    tracing::info!(?served, "session ended");
    Ok(())
}
