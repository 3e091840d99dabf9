//! A CA's events, from the active's disk to the passive's, against the original's pipeline.
//!
//! An event begins when the file stands on the active and ends when it stands on the passive and is durable
//! there. Both watches run all the time, as in real use; their session is open.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pefo_core::disk::{Attributes, Disk};
use pefo_core::{Error, Result};
use pefo_testkit::ca::{Keys, Step};

use crate::numbers::{median, p99};
use crate::pairs::{self, Contest};
use crate::row::{Halt, Measured, Row, Unit};
use crate::watched::{Names, Watched, since, test_ca};
use crate::world::World;

/// How the original calls rsync.
const FLAGS: [&str; 2] = ["-au", "--delete"];
/// So many events make one run of pefo, of which the median counts.
const EVENTS: usize = 20;
/// Over so long it is looked at what the watches do when nothing happens.
const IDLE: Duration = Duration::from_secs(10);
/// The burst's certificates, and of how many the original's way is measured.
const BURST: u64 = 1000;
const BURST_OF_PEER: u64 = 5;

/// The rows of this group.
pub(crate) fn rows() -> Vec<Row> {
    let row = |name, what, wanted, pairs, run| Row {
        name,
        what,
        unit: Unit::Milliseconds,
        wanted,
        pairs,
        run,
    };
    vec![
        row(
            "ca_event_p50_1k",
            "one certificate signed, 1,000 there",
            None,
            5,
            |world, pairs| events(world, pairs, 1_000, Act::Sign),
        ),
        row(
            "ca_event_p50_10k",
            "one certificate signed, 10,000 there",
            None,
            5,
            |world, pairs| events(world, pairs, 10_000, Act::Sign),
        ),
        row(
            "ca_event_p50_50k",
            "one certificate signed, 50,000 there",
            Some(0.005),
            5,
            |world, pairs| events(world, pairs, 50_000, Act::Sign),
        ),
        row(
            "ca_revoke_p50_50k",
            "one revocation, 500 before, 50,000 certificates",
            Some(0.005),
            5,
            |world, pairs| events(world, pairs, 50_000, Act::Revoke),
        ),
        row(
            "ca_burst_1000",
            "1,000 certificates as fast as they are written, 1,000 there",
            Some(0.02),
            3,
            burst,
        ),
        row(
            "ca_verify_50k",
            "both sides of 50,000 compared, caches warm",
            None,
            5,
            |world, pairs| verify(world, pairs, false),
        ),
        row(
            "ca_full_verify_50k",
            "every file of 50,000 read, every signature checked",
            None,
            3,
            |world, pairs| verify(world, pairs, true),
        ),
    ]
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Sign,
    Revoke,
}

struct Events<'a> {
    watched: Watched<'a>,
    act: Act,
    names: Names,
    acks: Names,
    made: u64,
    all: Vec<f64>,
    publishes: Vec<f64>,
    scratch: PathBuf,
}

impl Events<'_> {
    /// One event, in milliseconds.
    fn event(&mut self) -> Result<f64> {
        self.made += 1;
        let name = format!("event{:06}.example.com", self.made);
        let awaited = match self.act {
            Act::Sign => {
                let ca = &mut self.watched.ca;
                ca.sign_until(&name, &[], Step::Signed).map_err(test_ca)?;
                format!("{name}.pem")
            }
            Act::Revoke => {
                self.watched
                    .ca
                    .revoke_serials([10_000 + self.made])
                    .map_err(test_ca)?;
                "ca_crl.pem".to_owned()
            }
        };
        let begin = Instant::now();
        let Some(end) = self.names.durable(BTreeSet::from([awaited]))? else {
            return Err(self.watched.in_vain(&name));
        };
        let took = since(begin, end);
        self.verify(&name)?;
        // What the passive does after an event is waited for, outside of its time.
        if self
            .acks
            .durable(BTreeSet::from(["ca.ack".to_owned()]))?
            .is_none()
        {
            return Err(self.watched.in_vain("the ack"));
        }
        Ok(took)
    }

    fn verify(&self, name: &str) -> Result<()> {
        let path = match self.act {
            Act::Sign => format!("signed/{name}.pem"),
            Act::Revoke => "ca_crl.pem".to_owned(),
        };
        let [a, b] = [
            self.watched.ca.dir().join(&path),
            self.watched.standby().join(&path),
        ];
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|error| Error::io("read", path, error));
        if read(&a)? == read(&b)? {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{} is not {}",
            b.display(),
            a.display()
        )))
    }

    /// What the disk takes for one file, beside which the events are to be seen.
    fn publish(&mut self) -> Result<()> {
        let target = self.scratch.join("published.pem");
        let begin = Instant::now();
        Disk::new().publish(&target, &[b'x'; 2000], &Attributes::mode(0o644))?;
        self.publishes.push(since(begin, Instant::now()));
        Ok(())
    }
}

impl Contest for Events<'_> {
    fn prepare(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn pefo(&mut self) -> Result<f64> {
        let mut took = Vec::with_capacity(EVENTS);
        for _ in 0..EVENTS {
            self.watched.settle()?;
            self.publish()?;
            self.watched.settle()?;
            took.push(self.event()?);
        }
        self.all.extend(&took);
        median(&took).ok_or_else(|| Error::invalid("no event"))
    }

    fn peer(&mut self) -> Result<f64> {
        self.watched.original()
    }
}

fn events(world: &World, pairs: usize, certificates: u64, act: Act) -> Result<Measured, Halt> {
    let place = world.place("ca_events")?;
    let revoked = if act == Act::Revoke { 500 } else { 0 };
    let mut watched = Watched::seeded(world, &place, certificates, revoked, Keys::Ecdsa, &FLAGS)?;
    watched.original()?;
    watched.start()?;
    let awaited = match act {
        Act::Sign => watched.standby().join("signed"),
        Act::Revoke => watched.standby(),
    };
    let scratch = place.fresh("published")?;
    let mut contest = Events {
        names: Names::watch(&awaited)?,
        acks: Names::watch(&watched.acks())?,
        watched,
        act,
        made: 0,
        all: Vec::new(),
        publishes: Vec::new(),
        scratch,
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let name = contest.watched.original_name();
    let mut row = Measured::of(&measured, name)?.memory_kib(contest.watched.peak_kib());
    // The warm-up's too: a slow first event would be one that an operator meets.
    row.p99 = p99(&contest.all);
    row.publish = median(&contest.publishes);
    let mut note = limits(&contest.all, row.publish.unwrap_or_default());
    if let Some(([a, b], percent)) = contest.watched.idle(IDLE) {
        note.push_str(&format!(
            "; the watches when idle: {a} and {b} MiB (wanted ≤ 32), {percent:.1} % of a processor"
        ));
    }
    Ok(row.note(Some(&note)))
}

/// Whether the events are as fast as the disk lets them be.
fn limits(events: &[f64], publish: f64) -> String {
    let half = median(events).unwrap_or_default();
    let slowest = p99(events).unwrap_or_default();
    let (of_half, of_slowest) = (f64::max(5.0, 8.0 * publish), f64::max(25.0, 30.0 * publish));
    let verdict = |is: f64, limit: f64| if is <= limit { "yes" } else { "NO" };
    format!(
        "p50 {half:.2} ms, wanted ≤ {of_half:.1}: {}; p99 {slowest:.2} ms, wanted ≤ {of_slowest:.1}: {}",
        verdict(half, of_half),
        verdict(slowest, of_slowest)
    )
}

struct Verify<'a> {
    watched: Watched<'a>,
    full: bool,
}

impl Contest for Verify<'_> {
    fn prepare(&mut self, _: usize) -> Result<()> {
        if self.full {
            self.watched.forget()
        } else {
            // Caches are to be warm, on both sides.
            self.watched.on_passive(&["ca", "verify"]).map(drop)
        }
    }

    fn pefo(&mut self) -> Result<f64> {
        let full = ["ca", "verify", "--full"];
        let arguments = if self.full { &full[..] } else { &full[..2] };
        self.watched.on_passive(arguments)
    }

    fn peer(&mut self) -> Result<f64> {
        if self.full {
            self.watched.openssl_verifies()
        } else {
            self.watched.rsync_compares()
        }
    }
}

fn verify(world: &World, pairs: usize, full: bool) -> Result<Measured, Halt> {
    let place = world.place("ca_verify")?;
    // Puppet's own keys are RSA's, and their signatures take longer to check.
    let keys = if full { Keys::Rsa } else { Keys::Ecdsa };
    let watched = Watched::seeded(world, &place, 50_000, 500, keys, &FLAGS)?;
    let mut contest = Verify { watched, full };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let (peer, limit) = if full {
        ("openssl verify", 3_000.0)
    } else {
        ("rsync -anc --delete", 1_000.0)
    };
    let row = Measured::of(&measured, peer)?;
    let verdict = if row.summary.pefo <= limit {
        "yes"
    } else {
        "NO"
    };
    let note = format!("wanted ≤ {limit} ms: {verdict}; the peer looks at signed/ alone");
    Ok(row.note(Some(&note)))
}

struct Burst<'a> {
    watched: Watched<'a>,
    made: u64,
    /// From the last signature to the last certificate.
    after: Vec<f64>,
}

impl Contest for Burst<'_> {
    fn prepare(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn pefo(&mut self) -> Result<f64> {
        let mut names = Names::watch(&self.watched.standby().join("signed"))?;
        let name = |number: u64| format!("burst{number:06}.example.com");
        let numbers = self.made..self.made + BURST;
        self.made = numbers.end;
        let begin = Instant::now();
        for number in numbers.clone() {
            self.watched.ca.sign(&name(number)).map_err(test_ca)?;
        }
        let last = Instant::now();
        let awaited = numbers
            .map(|number| format!("{}.pem", name(number)))
            .collect();
        let Some(end) = names.durable(awaited)? else {
            return Err(self.watched.in_vain("the burst"));
        };
        self.after.push(since(last, end));
        Ok(since(begin, end))
    }

    fn peer(&mut self) -> Result<f64> {
        let mut took = 0.0;
        for number in 0..BURST_OF_PEER {
            let name = format!("peer{:06}.example.com", self.made + number);
            self.watched.ca.sign(&name).map_err(test_ca)?;
            took += self.watched.original()?;
        }
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let each = took / BURST_OF_PEER as f64;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let all = each * BURST as f64;
        Ok(all)
    }
}

fn burst(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let place = world.place("ca_burst")?;
    let mut watched = Watched::seeded(world, &place, 1_000, 0, Keys::Ecdsa, &FLAGS)?;
    watched.original()?;
    watched.start()?;
    let mut contest = Burst {
        watched,
        made: 0,
        after: Vec::new(),
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let after = median(&contest.after).unwrap_or_default();
    let note = format!(
        "{after:.0} ms after the last signature; the peer runs once an event: {BURST_OF_PEER} events, times {}",
        BURST / BURST_OF_PEER
    );
    let row = Measured::of(&measured, contest.watched.original_name())?;
    Ok(row.memory_kib(contest.watched.peak_kib()).note(Some(&note)))
}
