//! A classifier of 5,000 groups on two masters, and the original's way with it: curl, sed, curl.

#![expect(
    clippy::disallowed_methods,
    reason = "the playground is no data of pefo's"
)]

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;

use pefo_core::{Error, Result};
use pefo_testkit::classifier::{ClassifierDouble, Options, large_hierarchy};
use pefo_testkit::masters::{self, Master, built_binary};
use serde_json::Value;

use crate::process;
use crate::ran::Ran;
use crate::row::Halt;
use crate::ssh::shell_word;
use crate::world::{Place, World};

const A: &str = "puppet-a.lab";
const B: &str = "puppet-b.lab";
/// The same tree in every run.
const SEED: u64 = 1;

/// Both masters, paired, each with a classifier; the passive has imported the active's groups.
pub(crate) struct Classifiers {
    a: Master,
    b: Master,
    at_a: ClassifierDouble,
    at_b: ClassifierDouble,
    place: Place,
    peak_kib: Cell<u64>,
}

impl Classifiers {
    /// Fills the active's and brings the passive's in step.
    ///
    /// # Errors
    /// A skip, where something is not installed; a push or an import that fails.
    pub(crate) fn in_step(world: &World) -> Result<Self, Halt> {
        let mut a = Master::prepare(&built_binary(), A)?;
        let mut b = Master::prepare(&built_binary(), B)?;
        let groups = large_hierarchy(A, SEED);
        let at_b = ClassifierDouble::start(Options::default().allow(B));
        at_b.deploy_classes_of(&groups);
        let at_a = ClassifierDouble::start(Options::default().allow(A).groups(groups));
        a.use_classifier(&at_a, "");
        b.use_classifier(&at_b, "");
        masters::pair(&a, &b);
        let both = Self {
            a,
            b,
            at_a,
            at_b,
            place: world.place("classifiers")?,
            peak_kib: Cell::new(0),
        };
        both.run(&both.a, &["nc", "push", "--json"])?;
        both.restore()?;
        both.peak_kib.set(0);
        Ok(both)
    }

    /// `pefo nc export` on the active.
    pub(crate) fn export(&self) -> Result<Ran> {
        self.run(&self.a, &["nc", "export", "--json"])
    }

    /// `pefo nc restore` on the passive.
    pub(crate) fn restore(&self) -> Result<Ran> {
        self.run(&self.b, &["nc", "restore", "--json"])
    }

    fn run(&self, master: &Master, arguments: &[&str]) -> Result<Ran> {
        Ran::on(master, arguments, self.place.path(), &self.peak_kib)
    }

    /// How many times the passive's classifier has installed a hierarchy.
    pub(crate) fn installed(&self) -> usize {
        self.at_b.installed()
    }

    /// The largest peak of pefo's processes since the last time it was asked for, in KiB.
    pub(crate) fn take_peak_kib(&self) -> u64 {
        self.peak_kib.take()
    }

    /// How the original exports: what curl gets, through sed: milliseconds.
    pub(crate) fn curl_and_sed(&self) -> Result<f64> {
        let get = curl(&self.a, &self.at_a, "groups", "");
        self.shell(&format!(
            "{get} | sed 's/{A}/{B}/g' > {}",
            self.file("groups.json")
        ))
    }

    /// curl alone: what the server takes, in milliseconds.
    pub(crate) fn curl_alone(&self) -> Result<f64> {
        let get = curl(&self.a, &self.at_a, "groups", "");
        self.shell(&format!("{get} > {}", self.file("answer.json")))
    }

    /// How the original restores: all of what [`Classifiers::curl_and_sed`] left, each time.
    pub(crate) fn curl_back(&self) -> Result<f64> {
        let more = format!(
            "-f -H 'Content-Type: application/json' --data-binary @{}",
            self.file("groups.json")
        );
        self.shell(&curl(&self.b, &self.at_b, "import-hierarchy", &more))
    }

    fn file(&self, name: &str) -> String {
        shell_word(&self.place.path().join(name))
    }

    fn shell(&self, line: &str) -> Result<f64> {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        Ok(process::run(&mut command, self.place.path())?.milliseconds())
    }

    /// Both classifiers' groups as they answer them, in files; the passive's as the active's, but for one
    /// group in fifty.
    pub(crate) fn as_files(&self) -> Result<(PathBuf, PathBuf)> {
        let mut other = self.at_b.groups();
        for group in other.iter_mut().step_by(50) {
            group["variables"]["changed"] = true.into();
        }
        let write = |name: &str, groups: &[Value]| {
            let path = self.place.path().join(name);
            std::fs::write(&path, Value::from(groups).to_string())
                .map_err(|error| Error::io("write", &path, error))
                .map(|()| path)
        };
        Ok((
            write("a.json", &self.at_a.groups())?,
            write("b.json", &other)?,
        ))
    }

    /// The rows' own directory.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The masters' names, the active's first.
    pub(crate) fn names(&self) -> (&'static str, &'static str) {
        (A, B)
    }
}

fn curl(master: &Master, double: &ClassifierDouble, what: &str, more: &str) -> String {
    let dir = master.directory().display();
    format!(
        "curl -sS --cacert {dir}/nc-ca.pem --cert {dir}/nc-cert.pem --key {dir}/nc-key.pem {more} {}/v1/{what}",
        double.url()
    )
}
