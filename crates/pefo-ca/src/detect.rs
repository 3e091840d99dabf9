//! Looks for the cadir in the places Puppet's packages use, and for signs of a CA that is no directory
//! of Puppet's own format.
//!
//! What a database-backed CA can be told by, from Puppet Enterprise's documentation: the parameter
//! `puppet_enterprise::ca_storage_backend`, the passphrase file `.private-key-passphrase` in the cadir,
//! a storage setting in `ca.conf`; and, whatever the version, a cadir with a CA certificate but neither
//! inventory nor serial. `puppetserver ca storage --status` is the authority an operator can ask.

use std::path::{Path, PathBuf};

use pefo_core::{Error, Result};

use crate::layout::{DetectOptions, Series, missing};

/// (configuration directory, default ssldir, default cadir of the server's own, series)
const PLACES: [(&str, &str, &str, Series); 2] = [
    (
        "etc/puppetlabs/puppet",
        "etc/puppetlabs/puppet/ssl",
        "etc/puppetlabs/puppetserver/ca",
        Series::Puppetserver,
    ),
    (
        "etc/puppet",
        "var/lib/puppet/ssl",
        "etc/puppet/puppetserver/ca",
        Series::Debian,
    ),
];

/// Where the cadir is: puppet.conf's word first, then a real `ssl/ca`, then the server's own place.
pub(crate) fn find(root: &Path) -> Result<(PathBuf, Series)> {
    for (confdir, ssldir, cadir, series) in PLACES {
        let conf = root.join(confdir).join("puppet.conf");
        if let Some(named) = setting(&conf, "cadir")? {
            return Ok((named_path(root, &conf, &named)?, Series::Explicit));
        }
        let old = root.join(ssldir).join("ca");
        // A symlink is what `puppetserver ca migrate` leaves behind: it leads to the new place.
        if std::fs::symlink_metadata(&old).is_ok_and(|meta| meta.is_dir()) {
            return Ok((old, Series::BelowSsldir));
        }
        let new = root.join(cadir);
        if new.is_dir() {
            return Ok((new, series));
        }
    }
    Err(missing(&root.join(PLACES[0].2)))
}

/// Where a CA would be looked for on a host that has none.
pub(crate) fn vacant(root: &Path) -> Result<PathBuf> {
    for (confdir, _, cadir, _) in PLACES {
        let conf = root.join(confdir).join("puppet.conf");
        if let Some(named) = setting(&conf, "cadir")? {
            return named_path(root, &conf, &named);
        }
        if root.join(confdir).is_dir() {
            return Ok(root.join(cadir));
        }
    }
    Ok(root.join(PLACES[0].2))
}

/// Refuses what is a CA, but not one that lives in these files.
pub(crate) fn refuse_foreign(cadir: &Path, options: &DetectOptions) -> Result<()> {
    if cadir.join("private/ca_key.pem").exists() {
        return Err(Error::refused(
            "ca-openvox-go",
            format!("{} is the CA of openvox-ca", cadir.display()),
        )
        .hint("openvox-ca seals its inventory against outside edits; use its own replication."));
    }
    let sign = database_sign(cadir, &options.root)?;
    match sign {
        Some(sign) if !options.accept.contains("ca-in-database") => {
            Err(Error::refused("ca-in-database", format!("the CA of {} is kept in a database: {sign}", cadir.display())).hint(
                "Ask `puppetserver ca storage --status`. If it says file system, accept ca-in-database; else keep the CA in step through the database.",
            ))
        }
        _ => Ok(()),
    }
}

fn database_sign(cadir: &Path, root: &Path) -> Result<Option<String>> {
    let passphrase = cadir.join(".private-key-passphrase");
    if passphrase.exists() {
        return Ok(Some(format!("{} exists", passphrase.display())));
    }
    if cadir.join("ca_crt.pem").exists()
        && !cadir.join("inventory.txt").exists()
        && !cadir.join("serial").exists()
    {
        return Ok(Some(
            "the directory has a CA certificate, but neither inventory.txt nor serial".to_owned(),
        ));
    }
    if root.as_os_str().is_empty() {
        return Ok(None);
    }
    for file in [
        "etc/puppetlabs/puppetserver/conf.d/ca.conf",
        "etc/puppetlabs/enterprise/conf.d/pe.conf",
        "etc/puppet/puppetserver/conf.d/ca.conf",
    ] {
        let path = root.join(file);
        if let Some(line) = optional_text(&path)?
            .lines()
            .map(str::trim)
            .find(|line| says_database(line))
        {
            return Ok(Some(format!("{} says {line:?}", path.display())));
        }
    }
    Ok(None)
}

fn says_database(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    !line.starts_with(['#', '/'])
        && line.contains("storage")
        && ["database", "postgres", "pe-ca"]
            .iter()
            .any(|word| line.contains(word))
}

/// A setting of puppet.conf's server sections; the last one stands, as Puppet reads it.
fn setting(conf: &Path, name: &str) -> Result<Option<String>> {
    let mut section = String::new();
    let mut value = None;
    for line in optional_text(conf)?.lines().map(str::trim) {
        if let Some(title) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            title.trim().clone_into(&mut section);
        } else if let Some((key, text)) = line.split_once('=')
            && key.trim() == name
            && matches!(section.as_str(), "server" | "master" | "main")
        {
            value = Some(text.trim().to_owned());
        }
    }
    Ok(value)
}

fn named_path(root: &Path, conf: &Path, value: &str) -> Result<PathBuf> {
    match value.strip_prefix('/') {
        Some(below_root) if !value.contains('$') => Ok(root.join(below_root)),
        _ => Err(Error::new(pefo_core::ErrorKind::Config, format!("{} sets cadir to {value:?}", conf.display()))
            .hint("Name the directory itself as cadir in the [ca] section: `puppet config print cadir --section server` tells it.")),
    }
}

fn optional_text(path: &Path) -> Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::io("read", path, error)),
    }
}
