//! The active's half: dump → items.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pefo_core::disk::Attributes;
use pefo_core::generation::DataSet;
use pefo_core::generation::outgoing::{Description, Item};
use pefo_core::record;
use pefo_core::sealing::Recipient;
use pefo_core::{Digest, Error, Result};
use pefo_db::{CommitMark, DumpManifest};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::stage::{Stage, answered, perform};
use super::{files, settings, stage_dir, take};
use crate::arguments::Change;
use crate::host::Host;
use crate::pipeline::push::Collected;

/// Dumps a database into `dir` below `scratch` and gives its manifest.
///
/// # Errors
/// What the server or pg_dump says.
pub(super) fn dump(
    host: &Host,
    name: &str,
    scratch: &Path,
    accept: &[String],
) -> Result<(PathBuf, DumpManifest)> {
    let parent = scratch.join("dump");
    stage_dir(host, &parent, 0o700, true)?;
    let dir = parent.join("files");
    perform(
        host,
        Stage::Dump {
            name: name.to_owned(),
            dir: dir.clone(),
            accept: accept.to_vec(),
        },
    )?;
    let manifest = DumpManifest::read(&dir)?;
    Ok((dir, manifest))
}

/// A database's dump as a generation's items, sealed.
///
/// # Errors
/// As [`dump`].
pub fn collect(
    host: &Host,
    name: &str,
    scratch: &Path,
    recipients: &[Recipient],
    change: &Change,
) -> Result<Collected> {
    let (dir, manifest) = dump(host, name, scratch, &change.accept)?;
    let sealed = scratch.join("sealed");
    host.disk.create_dir(&sealed, &Attributes::mode(0o700))?;
    let mut items = Vec::new();
    for (index, file) in files(&dir)?.into_iter().enumerate() {
        let into = sealed.join(index.to_string());
        items.push(Item::sealed_file(
            &host.disk,
            file.clone(),
            0o600,
            &file.in_dir(&dir),
            &into,
            recipients,
        )?);
    }
    let (tables, rows) = (manifest.state.tables(), manifest.state.rows());
    let meaning = Digest::of(&manifest.content()?);
    if !change.dry_run {
        Marked::note(host, name, &manifest, meaning)?;
    }
    let products = BTreeMap::from([(
        "postgresql".to_owned(),
        manifest.server_version_num.to_string(),
    )]);
    Ok(Collected {
        meaning,
        items,
        description: Description {
            products,
            time: host.clock.now(),
            summary: json!({ "tables": tables, "rows": rows, "size_bytes": manifest.size_bytes }),
        },
        text: format!("{tables} tables, {rows} rows"),
    })
}

/// What was dumped last, and how to tell that nothing was committed since.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marked {
    /// Version of this record's schema: 1.
    format: u32,
    mark: CommitMark,
    meaning: Digest,
    /// Of the configuration that it was dumped under: another one may digest otherwise, or look elsewhere.
    settings: Digest,
}

impl Marked {
    fn path(host: &Host, name: &str) -> PathBuf {
        host.record_path("marks", &DataSet::Database(name.to_owned()))
    }

    fn note(host: &Host, name: &str, manifest: &DumpManifest, meaning: Digest) -> Result<()> {
        let path = Self::path(host, name);
        let Some(mark) = manifest.commit_mark.clone() else {
            return host.disk.remove_file(&path);
        };
        let settings = settings_digest(host)?;
        let marked = Self {
            format: 1,
            mark,
            meaning,
            settings,
        };
        host.store_json(&path, &marked, 0o600)
    }
}

fn settings_digest(host: &Host) -> Result<Digest> {
    let text = serde_json::to_vec(settings(host)?)
        .map_err(|error| Error::invalid(format!("write the settings: {error}")))?;
    Ok(Digest::of(&text))
}

/// What the last dump meant, where nothing was committed since.
///
/// # Errors
/// `Io`; what the server says.
pub fn unchanged_since(host: &Host, name: &str) -> Result<Option<Digest>> {
    let Some(marked) = record::load::<Marked>(&Marked::path(host, name))? else {
        return Ok(None);
    };
    if marked.settings != settings_digest(host)? {
        return Ok(None);
    }
    let is_unchanged = is_unchanged_since(host, name, marked.mark)?;
    Ok(is_unchanged.then_some(marked.meaning))
}

fn kept_path(host: &Host, name: &str) -> PathBuf {
    let dataset = DataSet::Database(name.to_owned());
    host.state("exports").join(dataset.dir_name())
}

/// The dump on this host, where nothing was committed since and it was made as one would be made now.
///
/// # Errors
/// What the server says; a dump that cannot be read is none.
pub fn current_dump(host: &Host, name: &str) -> Result<Option<(PathBuf, DumpManifest)>> {
    let dir = kept_path(host, name);
    let Ok(manifest) = DumpManifest::read(&dir) else {
        return Ok(None);
    };
    let Some(mark) = manifest.commit_mark.clone() else {
        return Ok(None);
    };
    let is_made_alike = manifest.exact_up_to_bytes == settings(host)?.exact_up_to.bytes();
    let is_current = is_made_alike && is_unchanged_since(host, name, mark)?;
    Ok(is_current.then_some((dir, manifest)))
}

fn is_unchanged_since(host: &Host, name: &str, mark: CommitMark) -> Result<bool> {
    let name = name.to_owned();
    answered(perform(host, Stage::IsUnchanged { name, mark })?)
}

/// A dump that stays on this host, replacing the one before.
///
/// # Errors
/// `Io`, or as [`dump`].
pub fn keep_dump(
    host: &Host,
    name: &str,
    scratch: &Path,
    accept: &[String],
) -> Result<(PathBuf, DumpManifest)> {
    let (dir, manifest) = dump(host, name, scratch, accept)?;
    let kept = kept_path(host, name);
    let part = host.state("exports").join(".pefo-dump.tmp");
    host.disk.remove_tree(&part)?;
    take(&host.disk, &dir, &part)?;
    host.disk.sync_filesystem(&part)?;
    host.disk.remove_tree(&kept)?;
    host.disk.rename(&part, &kept)?;
    Ok((kept, manifest))
}
