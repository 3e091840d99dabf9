//! The pair: that the peers answer, that their clocks agree, and that both run the same versions.
//!
//! The active logs in, which proves the pinned host key, its own key and the other side's receiver at once. The
//! passive can be reached while its active cannot, so it goes by what it was sent: the newest signed heartbeat,
//! and when that came.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pefo_core::clock::Timestamp;
use pefo_core::generation::spool;
use pefo_core::heartbeat::Heartbeat;
use pefo_core::reign::Role;
use pefo_transport::Purpose;

use super::point::{Number, Point, bad};
use crate::TOOL;
use crate::host::Host;
use crate::outcome::Health;
use crate::pipeline;
use crate::products;

/// Clocks that differ by more are told, and are critical.
const SKEW: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// An active that was not heard of for longer is told, and is critical: it pushes every hour at least.
const SILENCE: (Duration, Duration) = (
    Duration::from_secs(2 * 3600),
    Duration::from_secs(24 * 3600),
);

/// Peer, clocks and versions.
pub(super) fn points(host: &Host, role: Role) -> Vec<Point> {
    match role {
        Role::Active => called(host),
        Role::Passive => heard(host),
    }
}

/// A real login and handshake with every peer.
fn called(host: &Host) -> Vec<Point> {
    let (mut peer, mut clocks, mut versions) = (
        Point::new("peer"),
        Point::new("clocks"),
        Point::new("versions"),
    );
    let introduced = host.introduction().and_then(|me| Ok((me, host.peers()?)));
    let (me, peers) = match introduced {
        Ok(introduced) => introduced,
        Err(error) => {
            peer.fault(Health::Critical, error);
            return vec![peer];
        }
    };
    for other in &peers {
        let before = host.clock.now();
        let connection = match pipeline::session::connect(host, &me, other, &Purpose::acks()) {
            Ok(connection) => connection,
            Err(error) => {
                peer.fault(Health::Critical, error.context(&other.certname));
                continue;
            }
        };
        let after = host.clock.now();
        let seen = connection.peer().clone();
        peer.say(format!("{} answers ({})", other.certname, seen.tool));
        if let Some(time) = seen.time {
            skew(
                &mut clocks,
                other.certname.as_str(),
                Skew::of(time, before, after),
            );
        }
        same_tool(&mut versions, other.certname.as_str(), &seen.tool);
        if let Err(error) = connection.close() {
            peer.fault(Health::Warning, error.context(&other.certname));
        }
    }
    if let [other] = peers.as_slice()
        && clocks.is_empty()
    {
        clocks.say(format!("{} did not say what time it is", other.certname));
    }
    own_version(&mut versions);
    vec![peer, clocks, versions]
}

/// What the active has sent, and when it came.
fn heard(host: &Host) -> Vec<Point> {
    let (mut peer, mut clocks, mut versions) = (
        Point::new("peer"),
        Point::new("clocks"),
        Point::new("versions"),
    );
    match pipeline::ack::newest_heartbeat(host) {
        Ok(None) => peer.say("no active was heard of yet: its first push tells"),
        Err(error) => peer.fault(Health::Warning, error),
        Ok(Some(heartbeat)) => {
            let now = host.clock.now();
            let name = heartbeat.certname.as_str();
            let came = came(host, &heartbeat).unwrap_or(heartbeat.time);
            silence(&mut peer, name, now.since(came));
            skew(&mut clocks, name, Skew::of(heartbeat.time, came, came));
        }
    }
    let mut here = None;
    for dataset in host.datasets() {
        let Ok(Some(manifest)) = pipeline::received::newest_full(host, &dataset) else {
            continue;
        };
        let source = manifest.source.as_str();
        if versions.is_empty() {
            same_tool(&mut versions, source, &manifest.tool);
        }
        if !manifest.products.is_empty() {
            let here = here.get_or_insert_with(|| products::installed(&*host.launcher));
            for what in mixed(here, &manifest.products) {
                let hint = "upgrade both masters to the same version: 'pefo pause' on both, the active, the passive, 'pefo check' and 'pefo resume' on both";
                versions.fault(Health::Warning, bad(format!("{what} on {source}"), hint));
            }
        }
    }
    own_version(&mut versions);
    vec![peer, clocks, versions]
}

/// When the receiver put a heartbeat into the spool, by this host's clock. It decides nothing but what is shown:
/// the transfer account can set it.
fn came(host: &Host, heartbeat: &Heartbeat) -> Option<Timestamp> {
    let path = spool::heartbeat_path(&host.config.site.spool_dir, &heartbeat.certname);
    modified(&path)
}

fn modified(path: &Path) -> Option<Timestamp> {
    Some(
        std::fs::symlink_metadata(path)
            .ok()?
            .modified()
            .ok()?
            .into(),
    )
}

fn silence(peer: &mut Point, name: &str, since: Duration) {
    let seconds = since.as_secs();
    let weight = match since {
        since if since > SILENCE.1 => Health::Critical,
        since if since > SILENCE.0 => Health::Warning,
        _ => Health::Ok,
    };
    if weight == Health::Ok {
        peer.say(format!("{name} was heard of {seconds} s ago"));
    } else {
        peer.fault(
            weight,
            bad(
                format!("nothing was heard of {name} for {seconds} s"),
                format!("on {name}: 'pefo status' and 'pefo check'; where it is gone for good, 'pefo promote' here"),
            ),
        );
    }
    peer.number(Number {
        label: format!("heard@{name}"),
        value: seconds,
        unit: "s",
        ranges: Some((
            SILENCE.0.as_secs().to_string(),
            SILENCE.1.as_secs().to_string(),
        )),
    });
}

/// How far another clock is off this host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skew {
    /// It shows so much more.
    Ahead(Duration),
    /// It shows so much less.
    Behind(Duration),
}

impl Skew {
    /// Of a clock that showed `there` at some moment between `before` and `after` by this host's clock: at least
    /// so much, whatever the line took.
    fn of(there: Timestamp, before: Timestamp, after: Timestamp) -> Self {
        if there < before {
            Self::Behind(before.since(there))
        } else {
            Self::Ahead(there.since(after))
        }
    }

    fn size(self) -> Duration {
        match self {
            Self::Ahead(by) | Self::Behind(by) => by,
        }
    }
}

fn skew(clocks: &mut Point, name: &str, skew: Skew) {
    let size = skew.size();
    let word = match skew {
        Skew::Ahead(_) => "ahead",
        Skew::Behind(_) => "behind",
    };
    let weight = match size {
        size if size > SKEW.1 => Health::Critical,
        size if size > SKEW.0 => Health::Warning,
        _ => Health::Ok,
    };
    let told = format!("{:.1} s {word}", size.as_secs_f64());
    if weight == Health::Ok {
        clocks.say(format!(
            "{name}'s clock differs by {:.1} s",
            size.as_secs_f64()
        ));
    } else {
        clocks.fault(
            weight,
            bad(
                format!("{name}'s clock is {told} of this host's"),
                "certificates and CRLs of one master are not valid yet, or any more, on the other: have NTP set both clocks ('timedatectl' shows whether it does)",
            ),
        );
    }
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    clocks.number(Number {
        label: format!("clock_skew@{name}"),
        value: milliseconds(size),
        unit: "ms",
        ranges: Some((
            milliseconds(SKEW.0).to_string(),
            milliseconds(SKEW.1).to_string(),
        )),
    });
}

fn same_tool(versions: &mut Point, name: &str, tool: &str) {
    if tool != TOOL {
        versions.fault(
            Health::Warning,
            bad(
                format!("{name} runs {tool}, this host {TOOL}"),
                "each speaks with the version before it: 'pefo pause' on both, install the newer one on both, 'pefo check', 'pefo resume'",
            ),
        );
    }
}

fn own_version(versions: &mut Point) {
    versions.say(format!("{TOOL} here, and nothing known that differs there"));
}

/// The products that both have, in different versions.
fn mixed(here: &BTreeMap<String, String>, there: &BTreeMap<String, String>) -> Vec<String> {
    let differs = |(name, version): (&String, &String)| {
        let other = there.get(name).filter(|other| *other != version)?;
        Some(format!("{name} is {version} here and {other}"))
    };
    here.iter().filter_map(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds).unwrap()
    }

    #[test]
    fn a_clock_that_showed_a_time_within_the_greeting_is_not_told_as_off() {
        let seconds = Duration::from_secs;
        assert_eq!(Skew::of(at(101), at(100), at(102)), Skew::Ahead(seconds(0)));
        assert_eq!(Skew::of(at(110), at(100), at(102)), Skew::Ahead(seconds(8)));
        assert_eq!(
            Skew::of(at(90), at(100), at(102)),
            Skew::Behind(seconds(10))
        );
    }

    #[test]
    fn the_more_a_clock_is_off_the_worse_it_is() {
        let health = |seconds| {
            let mut clocks = Point::new("clocks");
            skew(&mut clocks, "b", Skew::Behind(Duration::from_secs(seconds)));
            clocks.health()
        };
        let told = [5, 6, 60, 61].map(health);
        use Health::{Critical, Ok, Warning};
        assert_eq!(told, [Ok, Warning, Warning, Critical]);
    }

    #[test]
    fn an_active_that_falls_silent_is_a_warning_and_then_critical() {
        let health = |hours: u64| {
            let mut peer = Point::new("peer");
            silence(&mut peer, "a", Duration::from_secs(hours * 3600 + 1));
            peer.health()
        };
        let told = [0, 1, 2, 23, 24].map(health);
        use Health::{Critical, Ok, Warning};
        assert_eq!(told, [Ok, Ok, Warning, Warning, Critical]);
    }

    #[test]
    fn a_mixed_pair_is_told_product_by_product() {
        let of = |products: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned =
                |(name, version): &(&str, &str)| ((*name).to_owned(), (*version).to_owned());
            products.iter().map(owned).collect()
        };
        let here = of(&[("puppetserver", "8.7.0"), ("pe", "2023.8.1")]);
        let there = of(&[
            ("puppetserver", "8.6.0"),
            ("pe", "2023.8.1"),
            ("postgresql", "140012"),
        ]);
        assert_eq!(
            mixed(&here, &there),
            ["puppetserver is 8.7.0 here and 8.6.0"]
        );
        let mut versions = Point::new("versions");
        same_tool(&mut versions, "b", TOOL);
        assert_eq!(versions.health(), Health::Ok);
        same_tool(&mut versions, "b", "pefo 0.0.9");
        assert_eq!(versions.health(), Health::Warning);
    }
}
