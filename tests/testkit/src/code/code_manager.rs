//! A stand-in for Code Manager's command, `puppet-code`, which Puppet Enterprise alone has.
//!
//! It is a program that takes the command line that the product documents, and nothing else: global options
//! `--config-file` and `--token-file`, then `deploy`, one environment or `--all`, and `--wait`. It wants a token that
//! is the right one, in a file that is closed to others. It answers as the product's API documents (`POST
//! /v1/deploys` with `wait`), lines for people first, and brings code to a live directory as r10k within Code
//! Manager leaves it. Told to, it fails an environment, leaves one behind, or says what is no answer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::place;

const TOKEN: &str = "0QrstuvWxyz-token";

/// See the module.
#[derive(Debug)]
pub struct CodeManagerDouble {
    directory: TempDir,
}

impl CodeManagerDouble {
    /// One that deploys to `live`.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn create(live: &Path) -> Self {
        let double = Self {
            directory: place::directory("code-manager"),
        };
        for dir in ["control", "fails", "stays", "asked"] {
            make(&double.path(dir));
        }
        make(live);
        place::write(&double.path("live"), live.display().to_string());
        place::write(&double.path("token"), TOKEN);
        place::set_mode(&double.path("token"), 0o600);
        place::write(&double.path("puppet-code.conf"), "{}");
        let program = PROGRAM
            .replace("@DIR@", &double.directory.path().display().to_string())
            .replace("@TOKEN@", TOKEN);
        place::write(&double.program(), program);
        place::set_mode(&double.program(), 0o755);
        double
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program.
    pub fn program(&self) -> PathBuf {
        self.path("puppet-code")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("puppet-code.conf")
    }

    /// The file of the token that it accepts.
    pub fn token_file(&self) -> PathBuf {
        self.path("token")
    }

    /// What the next deployment of an environment brings: a file at a commit.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn publish(&self, environment: &str, commit: &str, site: &str) {
        let dir = self.path("control").join(environment);
        make(&dir);
        place::write(&dir.join("commit"), commit);
        place::write(&dir.join("site.pp"), site);
    }

    /// Each deployment of an environment fails from now on.
    ///
    /// # Panics
    /// Where that cannot be noted.
    pub fn fail(&self, environment: &str) {
        place::write(&self.path("fails").join(environment), "");
    }

    /// Each deployment of an environment is told as complete from now on, and never comes to the live directory.
    ///
    /// # Panics
    /// Where that cannot be noted.
    pub fn keep_back(&self, environment: &str) {
        place::write(&self.path("stays").join(environment), "");
    }

    /// It answers just this from now on, and ends with `code`.
    ///
    /// # Panics
    /// Where that cannot be noted.
    pub fn say(&self, text: &str, code: i32) {
        place::write(&self.path("says"), text);
        place::write(&self.path("says-code"), code.to_string());
    }

    /// It works again.
    ///
    /// # Panics
    /// Where that cannot be noted.
    pub fn mend(&self) {
        for dir in ["fails", "stays"] {
            let dir = self.path(dir);
            if let Err(error) = fs::remove_dir_all(&dir) {
                panic!("remove {}: {error}", dir.display());
            }
            make(&dir);
        }
        drop(fs::remove_file(self.path("says")));
    }

    /// The command lines it was called with.
    pub fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("asked/log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Lets others read the token, or not.
    ///
    /// # Panics
    /// Where that cannot be done.
    pub fn expose_token(&self, exposed: bool) {
        let mode = if exposed { 0o644 } else { 0o600 };
        let set = fs::set_permissions(self.token_file(), fs::Permissions::from_mode(mode));
        assert!(set.is_ok(), "{set:?}");
    }
}

fn make(dir: &Path) {
    if let Err(error) = fs::create_dir_all(dir) {
        panic!("make {}: {error}", dir.display());
    }
}

const PROGRAM: &str = r#"#!/bin/sh
set -eu
cd "@DIR@"
echo "$*" >>asked/log
wrong() { echo "puppet-code: $*" >&2; exit 1; }
token=""
while [ $# -gt 0 ]; do
    case "$1" in
    --config-file) [ -f "$2" ] || wrong "no configuration file $2"; shift 2 ;;
    --token-file) token=$2; shift 2 ;;
    -*) wrong "unknown option $1" ;;
    *) break ;;
    esac
done
[ "${1-}" = deploy ] || wrong "unknown action ${1-}"
shift
what="" wait=""
while [ $# -gt 0 ]; do
    case "$1" in
    --wait) wait=yes ;;
    --all) [ -z "$what" ] || wrong "--all and an environment"; what=--all ;;
    -*) wrong "unknown option $1" ;;
    *) [ -z "$what" ] || wrong "more than one environment"; what=$1 ;;
    esac
    shift
done
[ -n "$what" ] || wrong "an environment or --all is required"
[ -n "$wait" ] || wrong "this one is always told to wait"
[ -n "$token" ] && [ "$(cat "$token")" = "@TOKEN@" ] || wrong "code-manager-client: the token is not valid"
if [ -f says ]; then
    cat says
    exit "$(cat says-code)"
fi
if [ "$what" = --all ]; then
    echo "Deploying all environments."
    names=$(ls control)
    echo "Found $(echo "$names" | wc -w) environments."
else
    names=$what
    echo "Found 1 environments."
fi
live=$(cat live)
id=0 before="" code=0
printf '['
for name in $names; do
    id=$((id + 1))
    printf '%s\n  {\n    "environment": "%s",\n    "id": %s,\n' "$before" "$name" "$id"
    before=,
    if [ -f "fails/$name" ] || ! [ -d "control/$name" ]; then
        code=1
        printf '    "status": "failed",\n    "error": {\n      "kind": "puppetlabs.code-manager/deploy-failure",\n'
        printf '      "details": {"corrected-name": "%s"},\n' "$name"
        printf '      "msg": "Errors while deploying environment %s (exit code: 1):\\nERROR\\t -> no such branch"\n    }\n  }' "'$name'"
        continue
    fi
    commit=$(cat "control/$name/commit")
    if ! [ -f "stays/$name" ]; then
        mkdir -p "$live/$name/manifests"
        cp "control/$name/site.pp" "$live/$name/manifests/site.pp"
        printf '{"name": "%s", "signature": "%s", "deploy_success": true, "module_deploys": []}\n' "$name" "$commit" >"$live/$name/.r10k-deploy.json~"
        mv "$live/$name/.r10k-deploy.json~" "$live/$name/.r10k-deploy.json"
    fi
    printf '    "status": "complete",\n    "deploy-signature": "%s",\n' "$commit"
    printf '    "file-sync": {"environment-commit": "%s", "code-commit": "%s"}\n  }' "$commit" "$commit"
done
printf '\n]\n'
exit "$code"
"#;
