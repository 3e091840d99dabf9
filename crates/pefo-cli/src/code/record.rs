//! What r10k and git say of an environment.
//!
//! r10k, alone or within Code Manager, leaves `.r10k-deploy.json` in each environment once it has deployed it
//! (`R10K::Action::Deploy::Environment`), with the commit as `signature`. Where a module could not be had, r10k
//! ends before it writes that: the working copy's HEAD is then another commit, which tells that the deployment
//! is not finished. Without r10k, the HEAD of a git working copy is the commit.
//!
//! Git's own files are read, and git is not run: a working copy's configuration can name programs for git to
//! run, and root does not run those of whoever may write code. What cannot be read is taken for absent: the
//! tree's digest is compared all the same.

use std::collections::BTreeMap;

use pefo_core::disk::Beneath;
use pefo_core::{RelPath, Result};
use serde::Deserialize;

use super::Label;

/// r10k's record, at the top of each environment.
pub const R10K: &str = ".r10k-deploy.json";
const MAX_RECORD_BYTES: u64 = 4 << 20;
const MAX_REF_BYTES: u64 = 4096;
const MAX_PACKED_BYTES: u64 = 64 << 20;

/// What is known of an environment's deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The commit.
    pub revision: Option<Label>,
    /// It was begun and did not end well.
    pub unfinished: bool,
    /// Each module's commit or version.
    pub modules: BTreeMap<Label, Label>,
}

/// r10k's record, of which there is more.
#[derive(Debug, Deserialize)]
struct R10kRecord {
    signature: Option<String>,
    deploy_success: Option<bool>,
    #[serde(default)]
    module_deploys: Vec<R10kModule>,
}

#[derive(Debug, Deserialize)]
struct R10kModule {
    name: String,
    #[serde(default)]
    version: Option<serde_json::Value>,
    #[serde(default)]
    sha: Option<String>,
}

/// Reads what is known of the environment below `dir`.
pub fn read(dir: &Beneath) -> Record {
    let head = git_head(dir);
    match r10k(dir) {
        Some(record) => settle(record, head),
        None => Record {
            revision: head,
            ..Record::default()
        },
    }
}

/// r10k's word, unless the working copy has gone on from there.
fn settle(mut record: Record, head: Option<Label>) -> Record {
    if let Some(head) = head
        && record.revision.as_ref() != Some(&head)
    {
        record.unfinished = true;
        record.revision = Some(head);
    }
    record
}

fn r10k(dir: &Beneath) -> Option<Record> {
    let bytes = dir.read(&RelPath::new(R10K).ok()?, MAX_RECORD_BYTES).ok()?;
    match parse_r10k(&bytes) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!(%error, path = %dir.path().join(R10K).display(), "r10k's record is not read");
            None
        }
    }
}

/// Reads r10k's record.
///
/// # Errors
/// `Invalid` where it is none.
pub fn parse_r10k(bytes: &[u8]) -> Result<Record> {
    let record: R10kRecord = serde_json::from_slice(bytes)
        .map_err(|error| pefo_core::Error::invalid(format!("read r10k's record: {error}")))?;
    let modules = record.module_deploys.into_iter().filter_map(|module| {
        let version = match module.version {
            Some(serde_json::Value::String(version)) => Some(version),
            _ => None,
        };
        let state = module.sha.or(version)?;
        Some((Label::new(module.name).ok()?, Label::new(state).ok()?))
    });
    Ok(Record {
        revision: record.signature.and_then(|text| Label::new(text).ok()),
        unfinished: record.deploy_success == Some(false),
        modules: modules.collect(),
    })
}

/// The commit that is checked out, where `dir` is a git working copy (gitrepository-layout(5)).
fn git_head(dir: &Beneath) -> Option<Label> {
    let git = dir.dir(&RelPath::new(".git").ok()?).ok()?;
    let read = |path: &str, max_bytes| {
        let bytes = git.read(&RelPath::new(path).ok()?, max_bytes).ok()?;
        String::from_utf8(bytes).ok()
    };
    let head = read("HEAD", MAX_REF_BYTES)?;
    let Some(name) = head.strip_prefix("ref: ") else {
        return commit(&head);
    };
    let name = name.trim_end();
    read(name, MAX_REF_BYTES)
        .and_then(|text| commit(&text))
        .or_else(|| packed(&read("packed-refs", MAX_PACKED_BYTES)?, name))
}

/// A reference among packed ones: a line `COMMIT NAME` each.
fn packed(text: &str, name: &str) -> Option<Label> {
    let line = text.lines().find_map(|line| {
        let (commit, it) = line.split_once(' ')?;
        (it == name).then_some(commit)
    });
    commit(line?)
}

/// A commit's whole name: SHA-1 or SHA-256 in hex.
fn commit(text: &str) -> Option<Label> {
    let text = text.trim_end();
    let is_commit =
        matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| Label::new(text).ok()).flatten()
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests lay out working copies by hand"
)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "af73adbae661e4e83c957087c63118e9fe44df39";
    const TWO: &str = "b01aae7a3707d0368663cc55f7fd527c74017909";

    fn label(text: &str) -> Label {
        Label::new(text).unwrap()
    }

    fn write(dir: &Path, path: &str, text: &str) {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read_dir(dir: &Path) -> Record {
        read(&Beneath::open(dir).unwrap())
    }

    #[test]
    fn r10k_tells_the_commit_and_each_modules() {
        let text = format!(
            r#"{{"name": "production", "signature": "{ONE}", "started_at": "2026-11-30 12:09:47 +0000",
            "finished_at": "2026-11-30 12:09:47 +0000", "deploy_success": true, "module_deploys": [
            {{"name": "apache", "version": "main", "sha": "{TWO}"}},
            {{"name": "stdlib", "version": "9.4.1", "sha": null}},
            {{"name": "odd", "version": null, "sha": null}}]}}"#
        );
        let record = parse_r10k(text.as_bytes()).unwrap();
        assert_eq!(record.revision, Some(label(ONE)));
        assert!(!record.unfinished);
        let modules = [("apache", TWO), ("stdlib", "9.4.1")];
        assert_eq!(
            record.modules,
            modules.map(|(k, v)| (label(k), label(v))).into()
        );
        assert!(parse_r10k(b"{").is_err());
    }

    #[test]
    fn a_working_copy_that_has_gone_on_from_r10ks_record_is_unfinished() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(
            dir,
            R10K,
            &format!(r#"{{"signature": "{ONE}", "deploy_success": true}}"#),
        );
        let record = read_dir(dir);
        assert_eq!(
            (record.revision, record.unfinished),
            (Some(label(ONE)), false)
        );
        write(dir, ".git/HEAD", &format!("{ONE}\n"));
        assert!(!read_dir(dir).unfinished);
        write(dir, ".git/HEAD", &format!("{TWO}\n"));
        let record = read_dir(dir);
        assert_eq!(
            (record.revision, record.unfinished),
            (Some(label(TWO)), true)
        );
        write(
            dir,
            R10K,
            &format!(r#"{{"signature": "{TWO}", "deploy_success": false}}"#),
        );
        assert!(read_dir(dir).unfinished);
    }

    #[test]
    fn without_r10k_the_head_of_a_working_copy_counts() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(read_dir(dir), Record::default());
        write(dir, ".git/HEAD", "ref: refs/heads/production\n");
        assert_eq!(read_dir(dir).revision, None);
        write(
            dir,
            ".git/packed-refs",
            &format!("# pack-refs with: peeled\n{ONE} refs/heads/production\n{TWO} refs/heads/x\n"),
        );
        assert_eq!(read_dir(dir).revision, Some(label(ONE)));
        write(dir, ".git/refs/heads/production", &format!("{TWO}\n"));
        assert_eq!(read_dir(dir).revision, Some(label(TWO)));
        // Whoever writes code leads root nowhere.
        write(dir, ".git/HEAD", "ref: ../../../etc/shadow\n");
        assert_eq!(read_dir(dir).revision, None);
    }

    proptest! {
        #[test]
        fn no_record_makes_a_label_that_is_none(text in "\\PC{0,80}", json in prop::bool::ANY) {
            let bytes = if json { serde_json::json!({ "signature": text }).to_string() } else { text };
            if let Ok(record) = parse_r10k(bytes.as_bytes())
                && let Some(revision) = record.revision
            {
                prop_assert!(Label::new(revision.as_str()).is_ok());
            }
        }
    }
}
