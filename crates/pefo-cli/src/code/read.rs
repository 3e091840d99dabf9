//! What is deployed on this host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pefo_core::digest_cache::DigestCache;
use pefo_core::disk::{Attributes, Beneath};
use pefo_core::{Error, ErrorKind, Result};

use super::{Deployed, Environment, EnvironmentName, record, tree};
use crate::config::Code;
use crate::host::Host;

/// Where Puppet's packages and Debian's keep environments.
const USUAL: [&str; 2] = [
    "/etc/puppetlabs/code/environments",
    "/etc/puppet/code/environments",
];
/// More environments are a directory of something else.
const MAX_ENVIRONMENTS: usize = 10_000;

/// The `[code]` section.
///
/// # Errors
/// `Config` where there is none.
pub fn settings(host: &Host) -> Result<&Code> {
    host.config.code.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Config, "no code is configured")
            .hint("add a [code] section; 'pefo config example' shows one")
    })
}

/// The directory of environments.
///
/// # Errors
/// `Config` where none is configured, and none is where they usually are.
pub fn directory(host: &Host) -> Result<PathBuf> {
    let settings = settings(host)?;
    if settings.environments != Path::new("auto") {
        return Ok(settings.environments.clone());
    }
    let found = USUAL.iter().map(PathBuf::from).find(|path| path.is_dir());
    found.ok_or_else(|| {
        let message = format!(
            "no directory of environments: neither {} is there",
            USUAL.join(" nor ")
        );
        Error::new(ErrorKind::Config, message).hint("set environments in the [code] section")
    })
}

/// The environments and where they lie, in the order of their names. What Puppet takes for none is left out:
/// files, and names that are none. One that is a symlink to a directory, as Code Manager's may be, is one. Where the
/// directory does not exist, as on a spare that was never deployed to, there are none.
///
/// # Errors
/// `Config` as [`directory`], `Io`.
pub fn environments(host: &Host) -> Result<BTreeMap<EnvironmentName, PathBuf>> {
    let dir = directory(host)?;
    let fail = |error| Error::io("list", &dir, error);
    let mut environments = BTreeMap::new();
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(environments),
        entries => entries.map_err(fail)?,
    };
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().into_string().map(EnvironmentName::new);
        if let Ok(Ok(name)) = name
            && entry.path().is_dir()
        {
            environments.insert(name, entry.path());
        }
        if environments.len() > MAX_ENVIRONMENTS {
            let message = format!(
                "{} holds more than {MAX_ENVIRONMENTS} environments",
                dir.display()
            );
            return Err(Error::invalid(message).hint("is that the directory of environments?"));
        }
    }
    Ok(environments)
}

/// Reads what is deployed here.
///
/// # Errors
/// `Config` as [`directory`], `Io`; retryable where a deployment may be at work.
pub fn deployed(host: &Host) -> Result<Deployed> {
    let found = environments(host)?;
    let caches = host.state("work").join("code-digests");
    host.disk
        .create_dir_all(&caches, &Attributes::mode(0o700))?;
    let now = SystemTime::from(host.clock.now());
    let mut environments = BTreeMap::new();
    for (name, dir) in found {
        let cache_path = caches.join(name.as_str());
        let mut cache = DigestCache::load(&cache_path);
        let environment = one(&dir, &mut cache, now).map_err(|error| error.context(&name))?;
        if let Err(error) = cache.store(&host.disk, &cache_path) {
            tracing::warn!(%error, environment = %name, "its files are read again next time");
        }
        environments.insert(name, environment);
    }
    forget(host, &caches, &environments);
    Ok(Deployed::new(environments))
}

fn one(dir: &Path, cache: &mut DigestCache, now: SystemTime) -> Result<Environment> {
    let record = record::read(&Beneath::open(dir)?);
    let tree = tree::read(dir, cache, now)?;
    Ok(Environment {
        revision: record.revision,
        unfinished: record.unfinished,
        modules: record.modules,
        tree: tree.digest,
        files: tree.files,
        parts: tree.parts,
    })
}

/// Removes what is known of environments that are gone.
fn forget(host: &Host, caches: &Path, environments: &BTreeMap<EnvironmentName, Environment>) {
    let Ok(entries) = std::fs::read_dir(caches) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().map(EnvironmentName::new);
        let stands = matches!(name, Ok(Ok(name)) if environments.contains_key(&name));
        if !stands && let Err(error) = host.disk.remove_file(&entry.path()) {
            tracing::debug!(%error, "an old cache stays");
        }
    }
}
