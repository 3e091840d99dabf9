//! What a promotion warns of: exported resources that the former active's PuppetDB held and this one does not.
//!
//! A node's catalog collects what others exported, and where a type is purged (`resources { purge => true }`), what
//! nobody exports any more is taken away. A freshly promoted master's PuppetDB knows what reached it; what that
//! is nobody can compare while the former active is gone, so that the operator is told the numbers.

use std::path::Path;
use std::time::Duration;

use pefo_core::Result;
use pefo_core::disk::read_capped;
use pefo_nc::client::Credentials;
use pefo_nc::puppetdb::{ExportedResources, PuppetDb, PuppetDbOptions};

use crate::config;
use crate::host::Host;
use crate::pipeline::block_on;

/// A promotion does not wait for a PuppetDB that is down.
const CONNECT: Duration = Duration::from_secs(2);
const REQUEST: Duration = Duration::from_secs(5);
/// So many types are named.
const SHOWN: usize = 12;

/// The warning, where a PuppetDB is configured: how many exported resources it holds of each type, or why that
/// is not known.
pub fn exported_resources(host: &Host) -> Option<String> {
    let settings = host.config.puppetdb.as_ref()?;
    Some(match count(settings) {
        Ok(exported) => told(&settings.url, &exported),
        Err(error) => format!(
            "PuppetDB does not say how many exported resources it holds ({error}); before agents run, see that \
             it holds what the former active's did: collectors that purge take away what is missing"
        ),
    })
}

/// Asks the configured PuppetDB, once.
///
/// # Errors
/// `Config` or `Io` where key or certificate cannot be read; what the server says.
pub fn count(settings: &config::PuppetDb) -> Result<ExportedResources> {
    let mut options = PuppetDbOptions::new(settings.url.clone())
        .connect_timeout(CONNECT)
        .request_timeout(REQUEST)
        .connect_attempts(1);
    if let (Some(ca), Some(cert), Some(key)) = (&settings.ca_cert, &settings.cert, &settings.key) {
        let credentials = Credentials::Certificate {
            certificate_pem: read(cert)?,
            key_pem: read(key)?,
        };
        options = options.tls(read(ca)?, credentials);
    }
    let client = PuppetDb::new(&options)?;
    block_on(client.exported_resources())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    read_capped(path, 1 << 20)
}

fn told(url: &str, exported: &ExportedResources) -> String {
    let each = exported.by_type.iter();
    let mut types: Vec<String> = each.map(|(of, count)| format!("{of} {count}")).collect();
    if let Some(more) = types.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        types.truncate(SHOWN);
        types.push(format!("and {more} more types"));
    }
    let types = match types.as_slice() {
        [] => String::new(),
        types => format!(" ({})", types.join(", ")),
    };
    format!(
        "PuppetDB at {url} holds {} exported resources{types}; what the former active's nodes exported and this one \
         does not hold, collectors that purge take away when agents run",
        exported.total()
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn holding(types: impl IntoIterator<Item = (String, u64)>) -> ExportedResources {
        let mut exported = ExportedResources::default();
        exported.by_type = types.into_iter().collect::<BTreeMap<_, _>>();
        exported
    }

    #[test]
    fn the_numbers_are_told_by_type_and_a_long_list_is_cut() {
        let few = [("Sshkey", 340), ("Nagios_host", 12)];
        let few = few.map(|(of, count)| (of.to_owned(), count));
        let text = told("http://localhost:8080", &holding(few));
        insta::assert_snapshot!(text, @"PuppetDB at http://localhost:8080 holds 352 exported resources (Nagios_host 12, Sshkey 340); what the former active's nodes exported and this one does not hold, collectors that purge take away when agents run");
        let many = (0..15).map(|n| (format!("Type{n:02}"), 1));
        let text = told("http://localhost:8080", &holding(many));
        assert!(
            text.contains("15 exported resources") && text.contains("Type11 1, and 3 more types)"),
            "{text}"
        );
        let none = told("http://localhost:8080", &holding([]));
        assert!(none.contains("holds 0 exported resources; "), "{none}");
    }
}
