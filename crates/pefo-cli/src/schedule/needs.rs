//! What a command needs of the host it runs on, as far as the configuration tells: a service may do no more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::file::Place;
use crate::config::{Config, DeployCode, ServiceManager};

/// What Puppet itself writes where `puppet resource` starts and stops services.
const PUPPET_WRITES: [&str; 6] = [
    "/opt/puppetlabs/puppet/cache",
    "/opt/puppetlabs/puppet/public",
    "/var/log/puppetlabs",
    "/run/puppetlabs",
    "/var/lib/puppet",
    "/var/cache/puppet",
];

/// Where r10k keeps its clones, as packages have it.
const DEPLOYED_FROM: [&str; 3] = [
    "/opt/puppetlabs/r10k",
    "/opt/puppetlabs/puppet/cache",
    "/var/cache/r10k",
];

/// What one service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Where it writes. What is not there when it starts is left out.
    pub writes: BTreeSet<PathBuf>,
    /// It starts programs as another account, and stops them.
    pub other_account: bool,
    /// It starts programs of which pefo knows nothing.
    pub programs: bool,
    /// What it reads or writes lies in a home directory.
    pub homes: bool,
    /// Or in a directory for temporary files.
    pub temporary: bool,
}

impl Needs {
    /// Of one command, by its words.
    pub fn of(command: &str, place: &Place<'_>) -> Self {
        let config = place.config;
        // Whatever runs may come to know that its host's reign has ended, or be asked to take over: facts are
        // written, services stopped and started, hooks called.
        let mut writes = BTreeSet::from([config.site.state_dir.clone()]);
        writes.extend(config.schedule.writable.iter().cloned());
        if let Some(file) = &config.facts.file {
            writes.extend(file.path().parent().map(Path::to_owned));
        }
        if let Some(file) = &config.metrics.textfile {
            writes.extend(file.parent().map(Path::to_owned));
        }
        let services = &config.services;
        if services.manager == ServiceManager::Puppet {
            writes.extend(PUPPET_WRITES.map(PathBuf::from));
        }
        if matches!(command, "ca apply" | "ca watch" | "run" | "fence") {
            writes.extend(around_ca(place));
        }
        // Where another data set writes is another line here, for its own command and for "run".
        if matches!(command, "files apply" | "run") {
            writes.extend(place.files.iter().cloned());
        }
        let deploys = config.code.as_ref().filter(|code| {
            matches!(command, "apply code" | "run") && code.deploy == DeployCode::OnDrift
        });
        if deploys.is_some() {
            writes.extend(place.environments.map(Path::to_owned));
            writes.extend(DEPLOYED_FROM.map(PathBuf::from));
        }
        let uses_database = matches!(command, "run" | "drill") || command.starts_with("db ");
        let database = config.database.as_ref().filter(|_| uses_database);
        let own_programs = [
            &config.hooks.role_changed,
            &config.hooks.failed,
            &config.hooks.recovered,
            &services.before,
            &services.after,
            &services.probe,
            &services.stop,
            &services.start,
        ];
        let reads = reads(config);
        let paths = || {
            let own = [place.program, place.config_path, place.cadir];
            writes
                .iter()
                .map(PathBuf::as_path)
                .chain(own)
                .chain(reads.iter().copied())
        };
        let lies_in =
            |dirs: &[&str]| paths().any(|path| dirs.iter().any(|dir| path.starts_with(dir)));
        Self {
            other_account: database.is_some_and(|database| database.run_as.is_some())
                || deploys.is_some_and(|code| code.run_as.is_some()),
            programs: deploys.is_some()
                || services.manager == ServiceManager::Puppet
                || own_programs.into_iter().any(|program| !program.is_empty()),
            homes: lies_in(&["/home", "/root", "/run/user"]),
            temporary: lies_in(&["/tmp", "/var/tmp"]),
            writes,
        }
    }
}

/// The directory that holds the CA's: a seed and an operator who puts a CA back rename the CA's own into place. And
/// Puppet's ssldir, where the CA service is disabled.
fn around_ca(place: &Place<'_>) -> impl Iterator<Item = PathBuf> {
    let above = place.cadir.parent();
    // Not the whole of /etc, or of the root directory.
    let above = above.filter(|above| above.components().count() > 2);
    let ca = above.unwrap_or(place.cadir).to_owned();
    std::iter::once(ca).chain(place.config.ca.ssldir.clone())
}

/// Files and directories that the configuration names to be read.
fn reads(config: &Config) -> Vec<&Path> {
    let mut reads: Vec<Option<&Path>> = vec![Some(&config.site.spool_dir)];
    reads.extend(
        config
            .transport
            .host_keys
            .iter()
            .map(|path| Some(path.as_path())),
    );
    if let Some(classifier) = &config.classifier {
        let files = [&classifier.cert, &classifier.key, &classifier.token_file];
        reads.extend(files.map(Option::as_deref));
        reads.push(Some(&classifier.ca_cert));
    }
    if let Some(puppetdb) = &config.puppetdb {
        let files = [&puppetdb.cert, &puppetdb.key, &puppetdb.ca_cert];
        reads.extend(files.map(Option::as_deref));
    }
    if let Some(database) = &config.database {
        reads.push(database.passfile.as_deref());
        reads.push(database.bin_dir.as_deref());
        // A host name is no absolute path, and lies nowhere.
        reads.push(Some(Path::new(&database.host)));
        if let Some(tls) = &database.tls {
            reads.extend([&tls.ca_cert, &tls.cert, &tls.key].map(|path| Some(path.as_path())));
        }
    }
    reads.into_iter().flatten().collect()
}
