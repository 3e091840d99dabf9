//! `[code]`: where Puppet code is deployed on this master, and by what.

use std::path::{Path, PathBuf};

use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// `[code]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Code {
    /// What deploys.
    pub manager: CodeManager,
    /// The directory of environments, or `auto`.
    pub environments: PathBuf,
    /// The manager's program, where it is not where packages install it.
    pub program: Option<PathBuf>,
    /// r10k's configuration (`--config`), or that of Code Manager's command (`--config-file`).
    pub config: Option<PathBuf>,
    /// With `manager = "code-manager"`: the file of an RBAC token.
    pub token_file: Option<PathBuf>,
    /// With `manager = "r10k"`: deploy the modules of each environment too.
    pub modules: bool,
    /// With `manager = "command"`: the program and its arguments; `{}` is the environment.
    pub command: Vec<String>,
    /// The system account that deploys; root where it is not said.
    pub run_as: Option<String>,
    /// Seconds after which a deployment is stopped.
    pub timeout: u64,
    /// Whether the passive deploys by itself.
    pub deploy: DeployCode,
}

/// `code.manager`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeManager {
    /// r10k, run on this master.
    #[default]
    R10k,
    /// Puppet Enterprise's Code Manager, by `puppet-code`.
    CodeManager,
    /// The program of `code.command`.
    Command,
}

impl CodeManager {
    /// As the configuration spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::R10k => "r10k",
            Self::CodeManager => "code-manager",
            Self::Command => "command",
        }
    }
}

/// `code.deploy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployCode {
    /// Drift is told and left to others.
    #[default]
    Never,
    /// `pefo apply code` deploys the environments that have drifted.
    OnDrift,
}

impl Default for Code {
    fn default() -> Self {
        Self {
            manager: CodeManager::default(),
            environments: "auto".into(),
            program: None,
            config: None,
            token_file: None,
            modules: true,
            command: Vec::new(),
            run_as: None,
            timeout: 1800,
            deploy: DeployCode::default(),
        }
    }
}

impl Code {
    pub(super) fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::Config, message));
        let is_command = self.manager == CodeManager::Command;
        if is_command == self.command.is_empty() {
            return bad("code.manager = \"command\" and code.command belong together".to_owned());
        }
        if is_command && (self.program.is_some() || self.config.is_some()) {
            return bad("code.program and code.config are not for code.manager = \"command\": name them in code.command".to_owned());
        }
        if self.token_file.is_some() && self.manager != CodeManager::CodeManager {
            return bad("code.token_file is for code.manager = \"code-manager\"".to_owned());
        }
        let paths = [
            ("program", &self.program),
            ("config", &self.config),
            ("token_file", &self.token_file),
        ];
        let paths = paths
            .into_iter()
            .filter_map(|(key, path)| Some((key, path.as_deref()?)));
        let environments = (self.environments != Path::new("auto"))
            .then_some(("environments", self.environments.as_path()));
        for (key, path) in paths.chain(environments) {
            if !path.is_absolute() {
                let path = path.display().to_string();
                return bad(format!("code.{key} = {path:?} is not an absolute path"));
            }
        }
        if self.timeout == 0 {
            return bad("code.timeout = 0 would stop every deployment at once".to_owned());
        }
        Ok(())
    }
}
