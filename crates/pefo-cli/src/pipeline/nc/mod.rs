//! The classifier: what pefo-nc's export sends, and how its import plan is reached from a verified
//! generation.

mod copies;
mod rollback;
mod seen;
mod trial;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;

use pefo_core::disk::{Attributes, read_capped};
use pefo_core::generation::Verified;
use pefo_core::generation::outgoing::{Description, Item};
use pefo_core::sealing::Recipient;
use pefo_core::{Certname, Error, ErrorKind, RelPath, Result};
use pefo_nc::client::GroupsAnswer;
use pefo_nc::client::{ClientOptions, Credentials};
use pefo_nc::export::{Export, ExportPolicy, Previous, export};
use pefo_nc::import::{self, Holds, ImportPlan, ImportPolicy, Target};
use pefo_nc::transform::TransformOptions;
use pefo_nc::{Acceptances, CertnameMap, ClassifierClient, Envelope};
use serde_json::json;

use super::apply::Applied;
use super::block_on;
use super::push::Collected;
use crate::arguments::Change;
use crate::config::Classifier;
use crate::host::Host;

pub use rollback::run as roll_back;
pub use seen::is_unchanged;
pub use trial::{Trial, try_out};
pub use verify::{differences, run as verify};

const FILE: &str = "groups.json";
/// The largest export that is read back.
const MAX_EXPORT_BYTES: u64 = 1 << 30;

/// The configured classifier.
///
/// # Errors
/// `Config` where there is none.
pub fn settings(host: &Host) -> Result<&Classifier> {
    host.config.classifier.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Config, "no classifier is configured")
            .hint("add a [classifier] section; 'pefo config example' shows one")
    })
}

/// A client of this host's classifier.
///
/// # Errors
/// `Config` or `Io` where key, certificate or token cannot be read.
pub fn client(host: &Host) -> Result<ClassifierClient> {
    let settings = settings(host)?;
    let read = |path: &PathBuf| read_capped(path, 1 << 20);
    let credentials = match (&settings.cert, &settings.key, &settings.token_file) {
        (Some(cert), Some(key), _) => Credentials::Certificate {
            certificate_pem: read(cert)?,
            key_pem: read(key)?,
        },
        (_, _, Some(token)) => {
            Credentials::Token(String::from_utf8_lossy(&read(token)?).trim().to_owned())
        }
        _ => {
            return Err(Error::new(
                ErrorKind::Config,
                "classifier needs cert and key, or token_file",
            ));
        }
    };
    ClassifierClient::new(&ClientOptions::new(
        settings.url.clone(),
        read(&settings.ca_cert)?,
        credentials,
    ))
}

/// Where the last good export stands.
pub fn last_export_path(host: &Host) -> PathBuf {
    host.state("exports/nc.json")
}

/// The last good export, where there is one.
///
/// # Errors
/// `Io`, or `Invalid` where it is damaged.
pub fn last_export(host: &Host) -> Result<Option<Envelope>> {
    read_last_export(host, Envelope::parse)
}

fn read_last_export<T>(host: &Host, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
    let path = last_export_path(host);
    match read_capped(&path, MAX_EXPORT_BYTES) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => read(&bytes)
            .map(Some)
            .map_err(|error| error.context(path.display())),
    }
}

/// Exports this host's classifier past the export gate; kept as the last good export unless it is only
/// to be shown.
///
/// # Errors
/// What the server or the gate says.
pub fn export_now(host: &Host, change: &Change) -> Result<Export> {
    let answer = block_on(client(host)?.groups_answer())?;
    export_of(host, &answer, change)
}

/// Exports only where something was changed since the last good export; `None` where nothing was.
///
/// # Errors
/// As [`export_now`].
pub fn export_if_changed(host: &Host, change: &Change) -> Result<Option<Export>> {
    let answer = block_on(client(host)?.groups_answer())?;
    if seen::is_that(host, &answer)? {
        return Ok(None);
    }
    export_of(host, &answer, change).map(|export| (!export.unchanged).then_some(export))
}

fn export_of(host: &Host, answer: &GroupsAnswer, change: &Change) -> Result<Export> {
    let policy = ExportPolicy::default()
        .max_shrink_percent(settings(host)?.max_shrink_percent)
        .accept(acceptances(change));
    let previous = read_last_export(host, Previous::read)?;
    let export = export(
        host.config.site.certname.clone(),
        host.clock.now(),
        answer.tree()?,
        previous.as_ref(),
        &policy,
    )?;
    if !change.dry_run {
        host.disk.publish(
            &last_export_path(host),
            &export.bytes,
            &Attributes::mode(0o600),
        )?;
        seen::note(host, answer)?;
    }
    Ok(export)
}

fn acceptances(change: &Change) -> Acceptances {
    Acceptances::of(change.accept.iter().cloned())
}

/// The active's classification as a generation's items, sealed: parameters may hold secrets.
///
/// # Errors
/// As [`export_now`].
pub fn collect(host: &Host, change: &Change, recipients: &[Recipient]) -> Result<Collected> {
    let export = export_now(host, change)?;
    let count = export.envelope.count();
    Ok(Collected {
        meaning: export.envelope.digest.digest(),
        items: vec![Item::sealed(
            RelPath::new(FILE)?,
            0o600,
            &export.bytes,
            recipients,
        )?],
        description: Description {
            products: BTreeMap::new(),
            time: host.clock.now(),
            summary: json!({ "groups": count }),
        },
        text: format!("{count} groups"),
    })
}

/// Plans the import of a verified generation, and carries it out unless it is only to be shown.
///
/// # Errors
/// What the server or the import gate says; the report then tells which tree the target holds.
pub fn apply(
    host: &Host,
    verified: &Verified,
    change: &Change,
    show_only: bool,
) -> Result<Applied> {
    let client = client(host)?;
    let plan = planned(host, &client, verified, change)?;
    let before = verified.position().to_string();
    carry_out(host, &client, &plan, &before, show_only, &Beside::NOTHING)
}

/// What an import of a verified generation would make of what this host's classifier holds.
fn planned(
    host: &Host,
    client: &ClassifierClient,
    verified: &Verified,
    change: &Change,
) -> Result<ImportPlan> {
    let path = verified.files()?.join(FILE);
    let envelope = Envelope::parse(&read_capped(&path, MAX_EXPORT_BYTES)?)?;
    let policy = import_policy(host, &envelope.source, change)?;
    block_on(async { import::plan(&envelope, target(host, client).await?, &policy) })
}

/// What this host's classifier holds, whole or not.
async fn target(host: &Host, client: &ClassifierClient) -> Result<Target> {
    Ok(Target {
        certname: host.config.site.certname.clone(),
        tree: client.groups_answer().await?.checked()?,
        seen: host.clock.now(),
    })
}

/// What is done beside an import.
struct Beside<'a> {
    /// Past every gate, before anything is sent.
    first: &'a (dyn Fn() -> Result<()> + Sync),
    /// Where it failed and the target holds what it held before.
    undo: &'a (dyn Fn() -> Result<()> + Sync),
}

impl Beside<'_> {
    const NOTHING: Self = Self {
        first: &|| Ok(()),
        undo: &|| Ok(()),
    };
}

/// Carries a plan out unless it is only to be shown; `before` says what the copy that is kept comes before.
fn carry_out(
    host: &Host,
    client: &ClassifierClient,
    plan: &ImportPlan,
    before: &str,
    show_only: bool,
    beside: &Beside<'_>,
) -> Result<Applied> {
    let mut details = serde_json::to_value(plan)
        .map_err(|error| Error::invalid(format!("write the plan: {error}")))?;
    let text = plan.to_string();
    if !show_only {
        let mut keep = |rollback: Option<&Envelope>| {
            rollback.map_or(Ok(()), |rollback| copies::keep(host, rollback, before))?;
            (beside.first)()
        };
        let report = block_on(async {
            Ok(import::apply(client, plan, &import::ApplyOptions::default(), &mut keep).await)
        })?;
        if let Some(details) = details.as_object_mut() {
            details.insert(
                "target_holds".to_owned(),
                serde_json::to_value(report.holds).unwrap_or_default(),
            );
            details.insert(
                "missing".to_owned(),
                serde_json::to_value(&report.missing).unwrap_or_default(),
            );
        }
        let holds = report.holds;
        if let Some(error) = report.error {
            if holds == Holds::Old {
                (beside.undo)()?;
            }
            return Err(
                error.context(format!("the target holds the {holds:?} tree").to_lowercase())
            );
        }
    }
    Ok(Applied {
        details,
        text,
        errors: Vec::new(),
        changed: plan.needs_import(),
    })
}

/// Which host becomes which: the configured map, or the source's certname to this host's.
fn import_policy(host: &Host, source: &Certname, change: &Change) -> Result<ImportPolicy> {
    let settings = settings(host)?;
    let me = &host.config.site.certname;
    let map = if settings.map.is_empty() {
        CertnameMap::one(source.clone(), me.clone())
    } else {
        CertnameMap::new(settings.map.clone())?
    };
    let mut transform = TransformOptions::default();
    for path in &settings.rewrite {
        transform = transform.rewrite(path.parse()?);
    }
    Ok(ImportPolicy::with_map(map)
        .transform(transform)
        .ids(settings.ids)
        .accept(acceptances(change)))
}
