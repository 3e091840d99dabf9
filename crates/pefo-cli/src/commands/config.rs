//! `pefo config`: an example, a check, and what is in force.

use std::path::Path;

use pefo_core::{Error, Result};
use serde_json::json;

use crate::config::{Config, EXAMPLE};
use crate::outcome::Report;

/// Prints the commented example.
pub(super) fn example() -> Report {
    Report::ok(json!({ "example": EXAMPLE }), EXAMPLE)
}

/// Says whether the file is sound.
pub(super) fn check(path: &Path) -> Result<Report> {
    let config = Config::load(path)?;
    if let Some(health) = &config.health {
        health.listen.resolve()?;
    }
    Ok(Report::ok(
        json!({ "certname": config.site.certname }),
        format!("{}: ok\n", path.display()),
    ))
}

/// Prints the configuration with its defaults.
pub(super) fn show(path: &Path) -> Result<Report> {
    let config = Config::load(path)?;
    let text = toml::to_string(&config)
        .map_err(|error| Error::invalid(format!("write the configuration: {error}")))?;
    let details = serde_json::to_value(&config)
        .map_err(|error| Error::invalid(format!("write the configuration: {error}")))?;
    Ok(Report::ok(details, text))
}
