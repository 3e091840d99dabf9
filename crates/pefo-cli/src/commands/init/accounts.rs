//! System accounts: the transfer account with its forced command, and Puppet's service account.

use std::path::PathBuf;

use pefo_core::disk::Attributes;
use pefo_core::launch::Invocation;
use pefo_core::pairing::Introduction;
use pefo_core::{Error, ErrorKind, Result};

use crate::host::Host;
use crate::launcher::{Account, account};

/// Makes the transfer account and its spool where they do not exist.
pub(super) fn transfer(host: &Host) -> Result<Account> {
    let name = &host.config.site.transfer_user;
    let found = match account(&*host.launcher, name)? {
        Some(found) => found,
        None => {
            let home = "/var/lib/pefo-transfer";
            // '*' is no password that matches, and unlike '!' no lock that makes sshd refuse keys.
            let invocation = Invocation::new("useradd")
                .arg("--system")
                .arg("--user-group")
                .arg("--home-dir")
                .arg(home)
                .arg("--shell")
                .arg("/bin/sh")
                .arg("--password")
                .arg("*")
                .arg(name);
            host.launcher.run(&invocation)?.success(&invocation)?;
            account(&*host.launcher, name)?.ok_or_else(|| {
                Error::new(
                    ErrorKind::Child,
                    format!("account {name} was made but is not found"),
                )
            })?
        }
    };
    let spool = &host.config.site.spool_dir;
    if !spool.exists() {
        if let Some(parent) = spool.parent() {
            host.disk.create_dir_all(parent, &Attributes::mode(0o755))?;
        }
        host.disk
            .create_dir(spool, &Attributes::mode(0o700).owner(found.uid, found.gid))?;
    }
    Ok(found)
}

/// Makes Puppet's service account where neither `pe-puppet` nor `puppet` exists: a spare that has the
/// agent only must own the CA it is seeded with.
pub(super) fn service(host: &Host) -> Result<()> {
    let owner = host.config.ca.owner.as_deref();
    for name in owner.map_or(vec!["pe-puppet", "puppet"], |owner| vec![owner]) {
        if account(&*host.launcher, name)?.is_some() {
            return Ok(());
        }
    }
    let name = owner.unwrap_or("puppet");
    let invocation = Invocation::new("useradd")
        .arg("--system")
        .arg("--user-group")
        .arg("--home-dir")
        .arg("/var/lib/puppet")
        .arg("--shell")
        .arg("/usr/sbin/nologin")
        .arg(name);
    host.launcher.run(&invocation)?.success(&invocation)?;
    Ok(())
}

/// Where sshd looks for the transfer account's keys.
pub(in crate::commands) fn authorized_keys(host: &Host) -> Result<PathBuf> {
    let site = &host.config.site;
    if let Some(path) = &site.authorized_keys {
        return Ok(path.clone());
    }
    match account(&*host.launcher, &site.transfer_user)? {
        Some(found) => Ok(PathBuf::from(found.home).join(".ssh/authorized_keys")),
        None => Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no account {}", site.transfer_user),
        )),
    }
}

/// Writes the keys of these peers, each bound to the receiver. The file is root's: the account
/// can't lift its own restriction.
pub(super) fn authorize(host: &Host, peers: &[Introduction]) -> Result<()> {
    let program = std::env::current_exe()
        .map_err(|error| Error::new(ErrorKind::Io, "find this program").with_source(error))?;
    let (program, config) = (
        program.display().to_string(),
        host.config_path.display().to_string(),
    );
    if [&program, &config].iter().any(|path| {
        path.chars()
            .any(|c| c.is_whitespace() || "\"'\\$`".contains(c))
    }) {
        return Err(Error::new(
            ErrorKind::Config,
            format!("{program} or {config} cannot stand in a forced command"),
        )
        .hint("install pefo and its configuration at paths without blanks and quotes"));
    }
    let mut text = String::from("# written by 'pefo init'; root's own\n");
    for peer in peers {
        text.push_str(&format!(
            "restrict,command=\"{program} --config {config} receive\" {}\n",
            peer.ssh_key
        ));
    }
    let path = authorized_keys(host)?;
    if let Some(parent) = path.parent() {
        // sshd's StrictModes wants every directory on the way to be root's or the account's.
        host.disk.create_dir_all(parent, &Attributes::mode(0o755))?;
    }
    host.disk
        .publish(&path, text.as_bytes(), &Attributes::mode(0o644).owner(0, 0))
}
