//! Puppet code: a control repository for a real r10k, and a stand-in for Code Manager's command.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's own repositories are no data of pefo's"
)]

mod code_manager;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub use code_manager::CodeManagerDouble;

use crate::place;
use crate::skip::{self, Skip};

/// Debian's r10k.
const R10K: &str = "/usr/bin/r10k";
/// Debian's git.
const GIT: &str = "/usr/bin/git";

/// A bare git repository whose branches are environments, and a working copy that commits to it.
#[derive(Debug)]
pub struct ControlRepository {
    directory: TempDir,
}

impl ControlRepository {
    /// An empty one.
    ///
    /// # Errors
    /// A [`Skip`] where git or r10k is not installed.
    ///
    /// # Panics
    /// Where git fails.
    pub fn create() -> Result<Self, Skip> {
        skip::require_path(Path::new(GIT), "needs-git", "git")?;
        skip::require_path(Path::new(R10K), "needs-r10k", "r10k")?;
        let repository = Self {
            directory: place::directory("control"),
        };
        repository.git(&["init", "--quiet", "--bare", "control.git"]);
        repository.git(&["init", "--quiet", "work"]);
        Ok(repository)
    }

    /// Where it is cloned from.
    pub fn url(&self) -> PathBuf {
        self.directory.path().join("control.git")
    }

    fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Commits these files to a branch, which is made where it does not exist, and gives the commit.
    ///
    /// # Panics
    /// Where git fails.
    pub fn commit(&self, branch: &str, files: &[(&str, &str)]) -> String {
        let work = self.work();
        let work_arg = work.display().to_string();
        let git = |arguments: &[&str]| {
            let all: Vec<&str> = ["-C", &work_arg].iter().chain(arguments).copied().collect();
            self.git(&all)
        };
        let reference = format!("refs/heads/{branch}");
        let known = git(&["for-each-ref", "--format=%(refname)", &reference]);
        if known.is_empty() {
            git(&["checkout", "--quiet", "--orphan", branch]);
            git(&["rm", "-r", "--quiet", "--force", "--ignore-unmatch", "."]);
        } else {
            git(&["checkout", "--quiet", branch]);
        }
        for (path, text) in files {
            let path = work.join(path);
            if let Some(parent) = path.parent()
                && let Err(error) = fs::create_dir_all(parent)
            {
                panic!("make {}: {error}", parent.display());
            }
            place::write(&path, text);
        }
        git(&["add", "--all"]);
        git(&[
            "commit",
            "--quiet",
            "--allow-empty",
            "--message",
            "a change",
        ]);
        let url = self.url().display().to_string();
        git(&["push", "--quiet", &url, &format!("HEAD:{reference}")]);
        git(&["rev-parse", "HEAD"])
    }

    /// Removes a branch.
    ///
    /// # Panics
    /// Where git fails.
    pub fn remove(&self, branch: &str) {
        let url = self.url().display().to_string();
        self.git(&[
            "--git-dir",
            &url,
            "update-ref",
            "-d",
            &format!("refs/heads/{branch}"),
        ]);
    }

    /// Writes a configuration for r10k that deploys all branches to `environments`, with a cache beside it.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn r10k_config(&self, path: &Path, environments: &Path) {
        let text = format!(
            "cachedir: {}\nsources:\n  main:\n    remote: {}\n    basedir: {}\n    invalid_branches: correct\n",
            path.with_extension("cache").display(),
            self.url().display(),
            environments.display(),
        );
        place::write(path, text);
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new(GIT)
            .args([
                "-c",
                "user.name=A tester",
                "-c",
                "user.email=tester@example.com",
                "-c",
                "init.defaultBranch=none",
            ])
            .args(arguments)
            .current_dir(self.directory.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", self.directory.path())
            .output();
        match output {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            }
            Ok(output) => panic!(
                "git {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => panic!("run git: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_an_environment_and_each_commit_goes_on_from_the_last() {
        let Some(control) = skip::need(ControlRepository::create()) else {
            return;
        };
        let one = control.commit("production", &[("manifests/site.pp", "1")]);
        let two = control.commit("production", &[("Puppetfile", "")]);
        let other = control.commit("test", &[("manifests/site.pp", "1")]);
        let url = control.url().display().to_string();
        let git = |arguments: &[&str]| {
            let all: Vec<&str> = ["--git-dir", &url]
                .iter()
                .chain(arguments)
                .copied()
                .collect();
            control.git(&all)
        };
        assert_eq!(
            git(&["rev-parse", "production", "production^", "test"]),
            format!("{two}\n{one}\n{other}")
        );
        assert_eq!(git(&["ls-tree", "--name-only", "test"]), "manifests");
        control.remove("test");
        assert_eq!(
            git(&["for-each-ref", "--format=%(refname)"]),
            "refs/heads/production"
        );
    }
}
