//! The original module's four facts, as external facts: what classified masters by them goes on to.

use std::collections::BTreeMap;

use pefo_core::Result;
use pefo_core::disk::Attributes;
use pefo_core::reign::Role;
use serde_json::{Value, json};

use crate::config::FactsFormat;
use crate::host::Host;

/// Each fact's value by its name.
type Facts = BTreeMap<&'static str, String>;

/// Writes the facts of this role, where a file is configured.
///
/// # Errors
/// `Config` where this host is not set up; `Io`.
pub fn write_facts(host: &Host, role: Role) -> Result<()> {
    let Some(file) = &host.config.facts.file else {
        return Ok(());
    };
    let text = rendered(file.format(), &facts(host, role)?);
    if let Some(parent) = file.path().parent() {
        host.disk.create_dir_all(parent, &Attributes::mode(0o755))?;
    }
    host.disk
        .publish(file.path(), text.as_bytes(), &Attributes::mode(0o644))
}

/// The original's names: the mode, the key with which the active logs in, the passive, and the master whose
/// PuppetDB is the other one.
fn facts(host: &Host, role: Role) -> Result<Facts> {
    let me = host.introduction()?;
    let peers = host.peers()?;
    let other = peers
        .first()
        .map(|peer| peer.certname.to_string())
        .unwrap_or_default();
    let passive = match role {
        Role::Active => other.clone(),
        Role::Passive => me.certname.to_string(),
    };
    // The original shared the bare key, without its kind and comment.
    let key = me.ssh_key.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(BTreeMap::from([
        ("pe_failover_mode", role.to_string()),
        ("pe_failover_key", key),
        ("pe_failover_passive_master", passive),
        ("pe_failover_pdb_peer", other),
    ]))
}

fn rendered(format: FactsFormat, facts: &Facts) -> String {
    let lines = |line: fn(&str, &str) -> String| {
        let each = facts.iter().map(|(name, value)| line(name, value));
        each.collect()
    };
    match format {
        FactsFormat::Text => lines(|name, value| format!("{name}={value}\n")),
        // A quoted string of JSON is one of YAML.
        FactsFormat::Yaml => lines(|name, value| format!("{name}: {}\n", Value::from(value))),
        FactsFormat::Json => format!("{:#}\n", json!(facts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_written_as_facter_reads_them() {
        let facts = Facts::from([
            ("pe_failover_mode", "active".to_owned()),
            ("pe_failover_key", "AAAA+/=".to_owned()),
        ]);
        insta::assert_snapshot!(rendered(FactsFormat::Text, &facts), @r"
        pe_failover_key=AAAA+/=
        pe_failover_mode=active
        ");
        insta::assert_snapshot!(rendered(FactsFormat::Yaml, &facts), @r#"
        pe_failover_key: "AAAA+/="
        pe_failover_mode: "active"
        "#);
        insta::assert_snapshot!(rendered(FactsFormat::Json, &facts), @r#"
        {
          "pe_failover_key": "AAAA+/=",
          "pe_failover_mode": "active"
        }
        "#);
    }
}
