//! The way in: the transfer account, its spool, the keys that let peers in and what those may run, and sshd.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use pefo_core::disk::read_capped;
use pefo_core::launch::{Invocation, Launcher as _};
use pefo_core::reign::Role;
use pefo_core::{Error, Result};

use super::super::init::{authorized_keys, public_key_line};
use super::point::{Point, bad};
use crate::host::Host;
use crate::launcher::{AccountLauncher, account};
use crate::outcome::Health;

/// The spool belongs to the transfer account and to nobody else.
pub(super) fn spool(host: &Host) -> Point {
    Point::of("spool", Health::Critical, owned(host))
}

fn owned(host: &Host) -> Result<String> {
    let site = &host.config.site;
    let found = account(&*host.launcher, &site.transfer_user)?.ok_or_else(|| {
        bad(
            format!("there is no account {}", site.transfer_user),
            "run 'pefo init'",
        )
    })?;
    let meta = std::fs::metadata(&site.spool_dir)
        .map_err(|error| Error::io("examine", &site.spool_dir, error).hint("run 'pefo init'"))?;
    if meta.uid() != found.uid || meta.permissions().mode() & 0o022 != 0 {
        return Err(bad(
            format!(
                "{} is not writable by {} alone",
                site.spool_dir.display(),
                site.transfer_user
            ),
            "chown it to the transfer account and chmod go-w it",
        ));
    }
    let stat = rustix::fs::statvfs(&site.spool_dir)
        .map_err(|error| Error::io("examine", &site.spool_dir, error.into()))?;
    Ok(format!(
        "{}, {} MiB free",
        site.spool_dir.display(),
        stat.f_bavail * stat.f_frsize / (1 << 20)
    ))
}

/// Every paired peer's key stands in a file that is root's, bound to a program that the transfer account can run.
pub(super) fn login(host: &Host, role: Option<Role>) -> Point {
    let mut point = Point::new("login");
    point.found(Health::Warning, bound(host));
    // Without it nothing comes in; on the active it is for the day after a failover.
    let weight = match role {
        Some(Role::Passive) => Health::Critical,
        _ => Health::Warning,
    };
    if let Err(error) = runs(host) {
        point.fault(weight, error);
    }
    point
}

fn keys(host: &Host) -> Result<(PathBuf, String)> {
    let path = authorized_keys(host)?;
    let bytes = read_capped(&path, 1 << 20).map_err(|error| error.hint("run 'pefo init'"))?;
    Ok((path, String::from_utf8_lossy(&bytes).into_owned()))
}

fn bound(host: &Host) -> Result<String> {
    let (path, text) = keys(host)?;
    let meta = std::fs::metadata(&path).map_err(|error| Error::io("examine", &path, error))?;
    if meta.uid() != 0 {
        return Err(bad(
            format!("{} is not root's", path.display()),
            "the transfer account could lift its own restriction: chown root",
        ));
    }
    for peer in host.peers()? {
        let line = text.lines().find(|line| line.contains(&peer.ssh_key));
        if !line.is_some_and(|line| line.starts_with("restrict,command=\"")) {
            return Err(bad(
                format!(
                    "{} does not bind {}'s key to 'pefo receive'",
                    path.display(),
                    peer.certname
                ),
                "run 'pefo init' again with the peer's line",
            ));
        }
    }
    Ok(format!("{} binds every peer's key", path.display()))
}

/// What a key's line in authorized_keys runs, and with which configuration.
fn forced(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once("command=\"")?;
    let (command, _) = rest.split_once('"')?;
    let mut words = command.split(' ');
    let program = words.next()?;
    let config = words.skip_while(|word| *word != "--config").nth(1)?;
    Some((program, config))
}

/// The forced command is there, and the transfer account can run it and read its configuration.
fn runs(host: &Host) -> Result<()> {
    let Ok((path, text)) = keys(host) else {
        // Told by the other half.
        return Ok(());
    };
    let user = &host.config.site.transfer_user;
    let as_account = AccountLauncher::new(user, Arc::clone(&host.launcher));
    let mut told = BTreeSet::new();
    for (program, config) in text.lines().filter_map(forced) {
        for (flag, file, verb) in [("-x", program, "run"), ("-r", config, "read")] {
            if !told.insert((flag, file)) {
                continue;
            }
            let test = Invocation::new("test").arg(flag).arg(file);
            if as_account.run(&test)?.code != Some(0) {
                let message = format!(
                    "{user} cannot {verb} {file}, which {} has it {verb}",
                    path.display()
                );
                let hint = format!(
                    "install it where {user} can {verb} it, every directory on the way too (namei -m {file}), and run 'pefo init' again"
                );
                return Err(bad(message, hint));
            }
        }
    }
    Ok(())
}

/// sshd's keys here are those that this host has told its peers.
pub(super) fn host_keys(host: &Host) -> Point {
    Point::of("host-keys", Health::Warning, told(host))
}

fn told(host: &Host) -> Result<String> {
    if !host.is_initialised() {
        return Ok("no peer was told any yet".to_owned());
    }
    let me = host.introduction()?;
    let mut here = Vec::new();
    for path in &host.config.transport.host_keys {
        let line = public_key_line(path).map_err(|error| {
            error.hint(
                "name sshd's public keys in [transport] host_keys: 'ls /etc/ssh/ssh_host_*.pub'",
            )
        })?;
        here.push(line.split(' ').take(2).collect::<Vec<_>>().join(" "));
    }
    let changed: Vec<String> = me
        .host_keys
        .iter()
        .filter(|key| !here.contains(key))
        .map(|key| key.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    if changed.is_empty() {
        return Ok(format!(
            "{} keys are those that the peers have pinned",
            here.len()
        ));
    }
    Err(bad(
        format!(
            "sshd's host key here ({}) is not the one that the peers have pinned: they will not log in",
            changed.join(", ")
        ),
        "put the old key back; or run 'pefo init' here as it was run before, and take the line that it prints to each peer",
    ))
}

/// What sshd's configuration would forbid, as sshd itself tells it.
pub(super) fn sshd(host: &Host) -> Point {
    Point::of("sshd", Health::Warning, lets_in(host))
}

fn lets_in(host: &Host) -> Result<String> {
    if host.config.site.authorized_keys.is_some() {
        return Ok(
            "the keys' file is configured; the sshd that reads it is not looked at".to_owned(),
        );
    }
    let user = &host.config.site.transfer_user;
    let invocation = Invocation::new("sshd")
        .arg("-T")
        .arg("-C")
        .arg(format!("user={user},host=localhost,addr=127.0.0.1"));
    let finished = host.launcher.run(&invocation)?.success(&invocation)?;
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    let setting = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned))
    };
    if setting("pubkeyauthentication").as_deref() == Some("no") {
        return Err(bad(
            "sshd's PubkeyAuthentication is no".to_owned(),
            "allow it for the transfer account with a Match block",
        ));
    }
    for (name, allows) in [
        ("allowusers", true),
        ("denyusers", false),
        ("allowgroups", true),
    ] {
        if let Some(value) = setting(name)
            && value.split(' ').any(|entry| entry == user) != allows
        {
            return Err(bad(
                format!("sshd's {name} ({value}) keeps {user} out"),
                "name the transfer account there",
            ));
        }
    }
    if let Some(command) = setting("forcecommand").filter(|command| command != "none") {
        return Err(bad(
            format!("sshd's ForceCommand ({command}) replaces 'pefo receive'"),
            "exempt the transfer account with a Match block",
        ));
    }
    Ok(format!("sshd lets {user} in by key"))
}

#[cfg(test)]
mod tests {
    use super::forced;

    #[test]
    fn what_a_key_may_run_is_read_from_its_line() {
        let line = "restrict,command=\"/usr/bin/pefo --config /etc/pefo/pefo.toml receive\" ssh-ed25519 AAAA a";
        assert_eq!(forced(line), Some(("/usr/bin/pefo", "/etc/pefo/pefo.toml")));
        for other in [
            "ssh-ed25519 AAAA a",
            "# written by 'pefo init'; root's own",
            "command=\"x",
            "command=\"x y\"",
        ] {
            assert_eq!(forced(other), None, "{other}");
        }
    }
}
