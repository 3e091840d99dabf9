//! `pefo init`: two masters come to know each other.
//!
//! `init active` prints a line; `init passive --join LINE` takes it and prints one back; `init active
//! --accept LINE` takes that and proves a real login. Each can be run again: what exists is kept.

mod accounts;
mod original;
mod unpair;

pub(super) use accounts::authorized_keys;
pub(super) use original::leftovers as armed_originals;
pub(super) use unpair::run as unpair;

use pefo_core::disk::Attributes;
use pefo_core::generation::Site;
use pefo_core::keys::{SigningKey, random_bytes, system_random};
use pefo_core::launch::Invocation;
use pefo_core::pairing::Introduction;
use pefo_core::record;
use pefo_core::reign::{self, Reign, Role, Standing, Station};
use pefo_core::sealing::UnsealingKey;
use pefo_core::{Error, ErrorKind, Result};
use pefo_transport::Purpose;
use serde_json::json;

use crate::arguments::InitOptions;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline;
use crate::reigns::aftermath::write_facts;

/// Directories below the state directory, with their modes.
const DIRECTORIES: [(&str, u32); 17] = [
    ("keys", 0o700),
    ("public", 0o755),
    ("public/peers", 0o755),
    ("public/acks", 0o755),
    ("public/answers", 0o755),
    ("sent", 0o700),
    ("delivered", 0o700),
    ("acks", 0o700),
    ("accepted", 0o700),
    ("store", 0o700),
    ("locks", 0o700),
    ("runs", 0o700),
    ("reports", 0o700),
    ("reign", 0o700),
    ("work", 0o711),
    ("exports", 0o700),
    ("backups", 0o700),
];

/// `pefo init active`.
pub(super) fn active(host: &Host, accept: Option<&str>, options: &InitOptions) -> Result<Report> {
    let peer = accept.map(read_line).transpose()?;
    require_tools(host)?;
    let known = if host.is_initialised() {
        Some(host.introduction()?)
    } else {
        None
    };
    if let Some(peer) = &peer {
        let Some(me) = &known else {
            return Err(
                Error::new(ErrorKind::Config, "this host has not been set up yet")
                    .hint("run 'pefo init active' first, without --accept"),
            );
        };
        acceptable(me, peer)?;
    }
    if known.is_some() {
        host.require(Role::Active)?;
    }
    original::disarm(host, options)?;
    if options.dry_run.dry_run {
        return Ok(plan(host, "active", peer.as_ref()));
    }
    prepare(host)?;
    let key = signing_key(host)?;
    let site = match &known {
        Some(me) => me.site.clone(),
        None => Site::from_random(random_bytes(&system_random())?),
    };
    if !host.station_path().exists() {
        Station::found(&site, &host.config.site.certname, &key, host.clock.now())?
            .store(&host.disk, &host.station_path())?;
    }
    let me = introduce(host, site, &key)?;
    let Some(peer) = peer else {
        let line = me.line()?;
        return Ok(Report::ok(
            json!({ "line": line, "introduction": me }),
            format!("{line}\n"),
        ));
    };
    pin(host, &peer)?;
    // The proof: a real login with the pinned host key, and a handshake with the other side's pefo.
    let connection = pipeline::session::connect(host, &me, &peer, &Purpose::acks())?;
    let seen = connection.peer().clone();
    connection.close()?;
    write_facts(host, Role::Active)?;
    let text = format!(
        "paired with {} ({}, {}): login and handshake proved\n",
        seen.certname, seen.role, seen.tool
    );
    Ok(Report::ok(json!({ "peer": peer, "tool": seen.tool }), text))
}

/// `pefo init passive --join`.
pub(super) fn passive(host: &Host, join: &str, options: &InitOptions) -> Result<Report> {
    let peer = read_line(join)?;
    require_tools(host)?;
    let certname = &host.config.site.certname;
    if peer.certname == *certname {
        return Err(Error::new(
            ErrorKind::Config,
            format!("the line is this host's own: both are {certname}"),
        )
        .hint("run 'pefo init passive' on the other master, or mend site.certname here"));
    }
    let Some(record) = peer.reign.as_ref().filter(|_| peer.role == Role::Active) else {
        return Err(Error::new(
            ErrorKind::Config,
            format!("the line is of {}, which is not an active", peer.certname),
        )
        .hint("use the line that 'pefo init active' printed"));
    };
    let offered = reign::check(record.as_bytes(), &peer.site, &[peer.signing])?;
    let is_known = host.is_initialised();
    if is_known {
        let me = host.introduction()?;
        if me.site != peer.site {
            return Err(Error::refused(
                "other-site",
                format!("this host is already paired, as site {}", me.site.as_str()),
            )
            .hint("a spare belongs to one pair; remove its state directory to set it up anew"));
        }
        may_join(host, &offered)?;
    }
    original::disarm(host, options)?;
    if options.dry_run.dry_run {
        return Ok(plan(host, "passive", Some(&peer)));
    }
    prepare(host)?;
    accounts::service(host)?;
    let key = signing_key(host)?;
    pin(host, &peer)?;
    if !host.station_path().exists() {
        Station::new(Role::Passive, record.as_bytes(), None)?
            .store(&host.disk, &host.station_path())?;
    }
    if is_known {
        follow(host, &offered, record)?;
    }
    let me = introduce(host, peer.site.clone(), &key)?;
    write_facts(host, Role::Passive)?;
    let line = me.line()?;
    Ok(Report::ok(
        json!({ "line": line, "introduction": me }),
        format!("{line}\n"),
    ))
}

/// A spare joins the reign it lives under, or a newer one; never one that has ended, and never a second holder of
/// the same epoch.
fn may_join(host: &Host, offered: &Reign) -> Result<()> {
    let (station, reign) = host.station()?;
    if station.role != Role::Passive {
        host.require(Role::Passive)?;
    }
    let rival = station.rival(&reign.site, &host.reign_keys()?)?;
    for known in [Some(reign), rival].into_iter().flatten() {
        match known.standing_of(offered.epoch, &offered.holder) {
            Standing::Same | Standing::Newer => {}
            Standing::Older | Standing::Split => known.admit(offered.epoch, &offered.holder)?,
        }
    }
    Ok(())
}

/// Lives under the offered reign from now on, where that is a newer one.
fn follow(host: &Host, offered: &Reign, record: &str) -> Result<()> {
    let (station, reign) = host.station()?;
    if reign.standing_of(offered.epoch, &offered.holder) != Standing::Newer {
        return Ok(());
    }
    let _lock = host.lock("reign")?;
    station
        .under(Role::Passive, record.as_bytes())?
        .store(&host.disk, &host.station_path())
}

fn plan(host: &Host, role: &str, peer: Option<&Introduction>) -> Report {
    let site = &host.config.site;
    let mut text = format!(
        "would make this host ({}) the {role}: keys and state in {}, spool {} of account {}\n",
        site.certname,
        site.state_dir.display(),
        site.spool_dir.display(),
        site.transfer_user
    );
    if let Some(peer) = peer {
        text.push_str(&format!(
            "would pin {} at {}:{} and let its key run 'pefo receive' only\n",
            peer.certname, peer.host, peer.port
        ));
    }
    Report::ok(json!({ "role": role, "peer": peer }), text)
}

/// A pairing line as it stands on the command line: a damaged one is a wrong argument.
fn read_line(line: &str) -> Result<Introduction> {
    Introduction::parse(line).map_err(|error| {
        let hint = error
            .hint_text()
            .unwrap_or("copy the whole line again, as 'pefo init' printed it on the other master")
            .to_owned();
        Error::new(ErrorKind::Config, error.message().to_owned())
            .with_source(error)
            .hint(hint)
    })
}

/// A peer must be of the same site, and another host.
fn acceptable(me: &Introduction, peer: &Introduction) -> Result<()> {
    if peer.site != me.site {
        return Err(Error::refused(
            "other-site",
            format!("{} belongs to another pair", peer.certname),
        )
        .hint("join it with the line this host printed: pefo init passive --join LINE"));
    }
    if peer.certname == me.certname || peer.signing == me.signing {
        return Err(Error::new(ErrorKind::Config, "the line is this host's own")
            .hint("use the line that the passive printed"));
    }
    Ok(())
}

fn require_tools(host: &Host) -> Result<()> {
    let me = rustix::process::geteuid();
    if !me.is_root() {
        return Err(Error::new(
            ErrorKind::Denied,
            "init needs root: it makes an account and root's own state",
        )
        .hint("run it with sudo"));
    }
    for key in &host.config.transport.host_keys {
        if !key.exists() {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "{} does not exist: this host has no sshd to reach it by",
                    key.display()
                ),
            )
            .hint(
                "install openssh-server, or name its public host keys in [transport] host_keys",
            ));
        }
    }
    Ok(())
}

/// Directories and the transfer account.
fn prepare(host: &Host) -> Result<()> {
    host.disk
        .create_dir_all(&host.config.site.state_dir, &Attributes::mode(0o711))?;
    for (name, mode) in DIRECTORIES {
        host.disk
            .create_dir(&host.state(name), &Attributes::mode(mode))?;
    }
    accounts::transfer(host)?;
    Ok(())
}

fn signing_key(host: &Host) -> Result<SigningKey> {
    let path = host.state("keys/signing.key");
    if path.exists() {
        SigningKey::load(&path)
    } else {
        SigningKey::create(&host.disk, &path, &system_random())
    }
}

fn unsealing_key(host: &Host) -> Result<UnsealingKey> {
    let path = host.state("keys/sealing.key");
    if path.exists() {
        UnsealingKey::load(&path)
    } else {
        UnsealingKey::create(&host.disk, &path)
    }
}

fn ssh_key(host: &Host) -> Result<String> {
    let (path, public) = (host.state("keys/ssh"), host.state("keys/ssh.pub"));
    if !path.exists() {
        // ssh-keygen writes in place: under another name first, and the private half is renamed last, so
        // that a key which stands there is whole.
        let (part, part_public) = (
            host.state("keys/.pefo-ssh.tmp"),
            host.state("keys/.pefo-ssh.tmp.pub"),
        );
        host.disk.remove_file(&part)?;
        host.disk.remove_file(&part_public)?;
        let invocation = Invocation::new("ssh-keygen")
            .arg("-q")
            .arg("-t")
            .arg("ed25519")
            .arg("-N")
            .arg("")
            .arg("-C")
            .arg(format!("pefo@{}", host.config.site.certname))
            .arg("-f")
            .arg(part.as_os_str());
        host.launcher.run(&invocation)?.success(&invocation)?;
        for (from, to) in [(&part_public, &public), (&part, &path)] {
            host.disk.sync_file(from)?;
            host.disk.rename(from, to)?;
        }
    }
    public_key_line(&public)
}

pub(super) fn public_key_line(path: &std::path::Path) -> Result<String> {
    let bytes = pefo_core::disk::read_capped(path, 16 * 1024)?;
    let text = String::from_utf8_lossy(&bytes);
    match text.lines().next() {
        Some(line) if line.split(' ').count() >= 2 => Ok(line.trim().to_owned()),
        _ => Err(Error::invalid(format!(
            "{} holds no public key",
            path.display()
        ))),
    }
}

/// What this host says of itself; stored for the receiver, which may not read root's keys.
fn introduce(host: &Host, site: Site, key: &SigningKey) -> Result<Introduction> {
    let config = &host.config;
    let station = Station::load(&host.station_path())?;
    let host_keys = config
        .transport
        .host_keys
        .iter()
        .map(|path| public_key_line(path))
        .collect::<Result<Vec<_>>>()?;
    let me = Introduction {
        format: 1,
        site,
        certname: config.site.certname.clone(),
        role: station.role,
        signing: key.public(),
        sealing: unsealing_key(host)?.recipient(),
        ssh_key: ssh_key(host)?,
        // The comment names the machine it was made on; only type and key are pinned.
        host_keys: host_keys
            .iter()
            .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
            .collect(),
        host: config
            .transport
            .host
            .clone()
            .unwrap_or_else(|| config.site.certname.to_string()),
        port: config.transport.port,
        user: config.site.transfer_user.clone(),
        ca_fingerprint: pipeline::ca::fingerprint(host),
        reign: (station.role == Role::Active).then(|| station.current.clone()),
    };
    host.store_json(&host.state("public/self.json"), &me, 0o644)?;
    Ok(me)
}

/// Remembers a peer and lets its key run the receiver, and nothing else.
fn pin(host: &Host, peer: &Introduction) -> Result<()> {
    let path = host
        .state("public/peers")
        .join(format!("{}.json", peer.certname));
    if let Some(known) = record::load::<Introduction>(&path)?
        && known.signing != peer.signing
    {
        return Err(Error::refused(
            "peer-key-changed",
            format!("{} is paired already, with another key", peer.certname),
        )
        .hint(format!(
            "if that host was set up anew: 'pefo init unpair {}', then pair again",
            peer.certname
        )));
    }
    host.store_json(&path, peer, 0o644)?;
    accounts::authorize(host, &host.peers()?)
}
