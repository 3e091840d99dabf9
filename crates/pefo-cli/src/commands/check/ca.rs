//! The CA, until when its certificates and CRLs hold, and whether this master's certificate has the shared name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pefo_ca::cert::Cert;
use pefo_ca::expiry::{Kind, Margins, Urgency, Validity};
use pefo_core::clock::Timestamp;
use pefo_core::disk::read_capped;
use pefo_core::reign::Role;
use pefo_core::{Error, Result};

use super::point::{Number, Point, bad};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Health;
use crate::pipeline;

/// Where Puppet keeps a host's own certificates: its packages, Debian's.
const SSLDIRS: [&str; 3] = [
    "/etc/puppetlabs/puppet/ssl",
    "/var/lib/puppet/ssl",
    "/etc/puppet/ssl",
];
const DAY: u64 = 86_400;
/// How long before its end a certificate or CRL is told, and is critical.
const MARGINS: Margins = Margins {
    soon: Duration::from_secs(30 * DAY),
    now: Duration::from_secs(7 * DAY),
};
const MAX_BYTES: u64 = 1 << 20;

/// The CA is whole. A spare without one can still be seeded.
pub(super) fn ca(host: &Host, role: Option<Role>) -> Point {
    let weight = match role {
        Some(Role::Active) => Health::Critical,
        _ => Health::Warning,
    };
    Point::of("ca", weight, whole(host))
}

fn whole(host: &Host) -> Result<String> {
    let layout = pipeline::ca::layout(host, &Change::default())?;
    let snapshot = pipeline::ca::snapshot(host, &layout, pefo_ca::Exclusions::new())?;
    snapshot.require_whole()?;
    let summary = snapshot.summary();
    Ok(format!(
        "{}: {} certificates, {} revocations",
        layout.cadir().display(),
        summary.certificates,
        summary.revocations
    ))
}

/// The directories with this host's own certificates.
fn ssldirs(host: &Host) -> Vec<PathBuf> {
    let own = format!("certs/{}.pem", host.config.site.certname);
    let usual = SSLDIRS.map(PathBuf::from);
    let usual = usual.into_iter().filter(|dir| dir.join(&own).is_file());
    host.config
        .ca
        .ssldir
        .clone()
        .into_iter()
        .chain(usual)
        .collect()
}

/// This host's own certificate, where it is found.
fn own_certificate(host: &Host) -> Option<PathBuf> {
    let name = format!("{}.pem", host.config.site.certname);
    let of_agent = ssldirs(host)
        .into_iter()
        .map(|dir| dir.join("certs").join(&name));
    let signed = pipeline::ca::layout(host, &Change::default()).ok();
    let signed = signed.map(|layout| layout.cadir().join("signed").join(&name));
    of_agent.chain(signed).find(|path| path.is_file())
}

/// Every file with certificates or CRLs that this host lives by.
fn files(host: &Host) -> Vec<PathBuf> {
    let config = &host.config;
    let mut files = Vec::new();
    if let Ok(layout) = pipeline::ca::layout(host, &Change::default()) {
        let names = ["ca_crl.pem", "infra_crl.pem", "ca_crt.pem"];
        files.extend(names.map(|name| layout.cadir().join(name)));
    }
    for dir in ssldirs(host) {
        files.extend([dir.join("crl.pem"), dir.join("certs/ca.pem")]);
    }
    files.extend(own_certificate(host));
    if let Some(classifier) = &config.classifier {
        files.extend(classifier.cert.clone());
        files.push(classifier.ca_cert.clone());
    }
    if let Some(puppetdb) = &config.puppetdb {
        files.extend(puppetdb.cert.clone());
        files.extend(puppetdb.ca_cert.clone());
    }
    if let Some(tls) = config
        .database
        .as_ref()
        .and_then(|database| database.tls.as_ref())
    {
        files.extend([tls.cert.clone(), tls.ca_cert.clone()]);
    }
    files.retain(|path| path.is_file());
    let mut seen = BTreeSet::new();
    files.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    files
}

/// No certificate and no CRL that this host lives by is near its end.
pub(super) fn certificates(host: &Host) -> Point {
    let mut point = Point::new("certificates");
    let now = host.clock.now();
    let files = files(host);
    let mut least: Option<(Duration, String)> = None;
    for path in &files {
        let found = match Validity::read(path) {
            Ok(found) => found,
            Err(error) => {
                point.fault(Health::Warning, error);
                continue;
            }
        };
        for one in found {
            near(&mut point, path, &one, now);
            if let Some(left) = one.left(now)
                && least.as_ref().is_none_or(|(least, _)| left < *least)
            {
                least = Some((left, format!("{one} in {}", path.display())));
            }
        }
    }
    match least {
        None => point.say("none is here"),
        Some((left, what)) => {
            point.say(format!(
                "{} files; the first to end, in {} days, is {what}",
                files.len(),
                left.as_secs() / DAY
            ));
            point.number(Number {
                label: "expires_in".to_owned(),
                value: left.as_secs(),
                unit: "s",
                ranges: Some((
                    format!("{}:", MARGINS.soon.as_secs()),
                    format!("{}:", MARGINS.now.as_secs()),
                )),
            });
        }
    }
    point
}

fn near(point: &mut Point, path: &Path, one: &Validity, now: Timestamp) {
    let until = one.until.map(|until| until.to_string()).unwrap_or_default();
    let (weight, ends) = match one.urgency(now, &MARGINS) {
        Urgency::Fine => return,
        Urgency::Soon => (Health::Warning, format!("ends at {until}")),
        Urgency::Now => (Health::Critical, format!("ends at {until}")),
        Urgency::Over => (Health::Critical, format!("ended at {until}")),
        Urgency::NotYet => {
            let from = format!("holds only from {}", one.from);
            let hint = "this host's clock is behind: see the point 'clocks', and 'timedatectl'";
            let message = format!("{}: {one} {from}", path.display());
            return point.fault(Health::Critical, bad(message, hint));
        }
    };
    let hint = match one.kind {
        Kind::Crl => {
            "an expired CRL makes every agent refuse its server: any revocation on the active signs a new one, such as that of a name made for it ('puppetserver ca generate --certname crl-renewal', then 'puppetserver ca clean --certname crl-renewal')"
        }
        Kind::Certificate => {
            "renew it: a master's own by 'puppetserver ca clean' and 'puppetserver ca generate' of its certname, the CA's by its vendor's procedure (Puppet's ca_extend module); see docs/check.md"
        }
    };
    point.fault(
        weight,
        bad(format!("{}: {one} {ends}", path.display()), hint),
    );
}

/// Agents that call the shared name accept this master by it.
pub(super) fn names(host: &Host) -> Point {
    let outcome = match &host.config.site.shared_name {
        None => Ok("no site.shared_name is configured: a name that agents share must be in both masters' certificates".to_owned()),
        Some(shared) => own_certificate(host)
            .ok_or_else(|| {
                let message = format!("no certificate of {} is here to have the name {shared}", host.config.site.certname);
                bad(message, "run 'puppet agent --test' once, or name its directory as [ca] ssldir")
            })
            .and_then(|path| has_name(&path, shared.as_str(), host.config.site.certname.as_str())),
    };
    Point::of("names", Health::Warning, outcome)
}

fn has_name(path: &Path, shared: &str, certname: &str) -> Result<String> {
    let bytes = read_capped(path, MAX_BYTES)?;
    let malformed = |error: pefo_ca::Malformed| error.in_file(path);
    let cert = Cert::from_pem(&bytes).map_err(malformed)?;
    if cert.covers(shared).map_err(malformed)? {
        return Ok(format!("{} has {shared}", path.display()));
    }
    let names = cert.dns_names().map_err(malformed)?.join(", ");
    let error: Error = bad(
        format!(
            "{} has not the name {shared} by which agents call it, only {names}",
            path.display()
        ),
        format!(
            "add it to dns_alt_names in puppet.conf; on the active 'puppetserver ca clean --certname {certname}' and 'puppetserver ca generate --certname {certname} --subject-alt-names {shared},{certname}'"
        ),
    );
    Err(error)
}

#[cfg(test)]
mod tests {
    use pefo_testkit::ca::{CaOptions, TestCa};

    use super::*;

    #[test]
    fn a_crl_is_told_by_file_and_date_when_its_end_is_near() {
        let dir = tempfile::tempdir().unwrap();
        TestCa::create(dir.path(), CaOptions::default()).unwrap();
        let path = dir.path().join("ca_crl.pem");
        let crl = Validity::read(&path).unwrap().remove(0);
        let end = crl.until.unwrap();
        let days_before = |days: u64| {
            let now = end.unix_seconds() - i64::try_from(days * DAY).unwrap();
            let mut point = Point::new("certificates");
            near(
                &mut point,
                &path,
                &crl,
                Timestamp::from_unix_seconds(now).unwrap(),
            );
            point
        };
        assert_eq!(days_before(31).health(), Health::Ok);
        assert_eq!(days_before(29).health(), Health::Warning);
        let told = days_before(3).faults().remove(0);
        assert_eq!(told.0, Health::Critical);
        assert!(
            told.1
                .contains("ca_crl.pem: the CRL of CN=Puppet CA: test ends at "),
            "{}",
            told.1
        );
        let mut past = Point::new("certificates");
        near(&mut past, &path, &crl, end.plus(Duration::from_secs(DAY)));
        assert!(past.faults()[0].1.contains(" ended at "));
        let mut early = Point::new("certificates");
        let before = Timestamp::from_unix_seconds(crl.from.unix_seconds() - 10).unwrap();
        near(&mut early, &path, &crl, before);
        assert_eq!(early.health(), Health::Critical);
    }

    #[test]
    fn a_certificate_without_the_shared_name_is_told_with_the_names_it_has() {
        let dir = tempfile::tempdir().unwrap();
        TestCa::create(dir.path(), CaOptions::default()).unwrap();
        let path = dir.path().join("signed/puppet-a.test.pem");
        assert!(has_name(&path, "puppet.test", "puppet-a.test").is_ok());
        assert!(has_name(&path, "PUPPET.test", "puppet-a.test").is_ok());
        let error = has_name(&path, "other.test", "puppet-a.test").unwrap_err();
        assert!(error.to_string().contains("only "), "{error}");
        assert!(
            error
                .hint_text()
                .unwrap()
                .contains("--subject-alt-names other.test,puppet-a.test")
        );
    }
}
