//! The health endpoint under load, beside a web server that answers the same without looking anywhere.

#![expect(
    clippy::disallowed_methods,
    reason = "the peer's configuration is no data of pefo's"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pefo_core::{Error, Result};
use pefo_testkit::ca::{CaOptions, TestCa};
use pefo_testkit::child::Child;
use pefo_testkit::masters::{self, Master, built_binary};
use pefo_testkit::{skip, wait};

use crate::memory::status_kib;
use crate::numbers::median;
use crate::pairs::{self, Contest};
use crate::process;
use crate::row::{Halt, Measured, Row, Unit};
use crate::world::{Place, World};

/// The rows of this group.
pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        name: "health_rps",
        what: "20,000 requests to /active or /passive?lag=30s, 64 clients, one core",
        unit: Unit::Milliseconds,
        wanted: None,
        pairs: 5,
        run,
    }]
}

/// So many requests are told of.
const REQUESTS: f64 = 20_000.0;
/// The server's core, and that of who asks.
const CORES: [&str; 2] = ["0", "1"];
const SECONDS: &str = "-d3s";
const LIMIT: Duration = Duration::from_secs(60);
const WRK: &str = "/usr/bin/wrk";
const NGINX: &str = "/usr/sbin/nginx";

struct Health<'a> {
    place: &'a Place,
    /// The active's question, the passive's, and the peer's.
    urls: [String; 3],
    daemons: [Child; 2],
    _masters: [Master; 2],
    _ca: TestCa,
    _nginx: Child,
    /// Requests a second, beside each run.
    rates: [Vec<f64>; 3],
}

impl Contest for Health<'_> {
    fn prepare(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    /// The slower of both.
    fn pefo(&mut self) -> Result<f64> {
        Ok(self.load(0)?.max(self.load(1)?))
    }

    fn peer(&mut self) -> Result<f64> {
        self.load(2)
    }
}

impl<'a> Health<'a> {
    fn start(place: &'a Place) -> Result<Self, Halt> {
        skip::require_path(Path::new(WRK), "no-wrk", "wrk")?;
        skip::require_path(Path::new(NGINX), "no-nginx", "nginx-light")?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        skip::require(cores > 1, "one-core", "the load needs a core of its own")?;
        let mut masters = [
            Master::prepare(&built_binary(), "puppet-a.lab")?,
            Master::prepare(&built_binary(), "puppet-b.lab")?,
        ];
        let ports = [free_port()?, free_port()?, free_port()?];
        for (master, port) in masters.iter_mut().zip(ports) {
            let cadir = master.cadir();
            master.use_cadir(&cadir, "owner = \"root\"\ngroup = \"root\"");
            master.configure(&format!("[health]\nlisten = \"127.0.0.1:{port}\"\n\n"));
        }
        let [a, b] = &masters;
        let ca = TestCa::create(&a.cadir(), CaOptions::default())
            .map_err(|error| Error::invalid(format!("make a CA: {error}")))?;
        masters::pair(a, b);
        a.pefo(["ca", "push", "--seed"]).exits(0);
        b.pefo(["ca", "apply"]).exits(0);
        let url = |port, path| format!("http://127.0.0.1:{port}{path}");
        let urls = [
            url(ports[0], "/active"),
            url(ports[1], "/passive?lag=30s"),
            url(ports[2], "/active"),
        ];
        let health = Self {
            daemons: [daemon(a), daemon(b)],
            _masters: masters,
            _ca: ca,
            _nginx: nginx(place.path(), ports[2])?,
            place,
            urls,
            rates: Default::default(),
        };
        for url in &health.urls {
            health.answers(url)?;
        }
        Ok(health)
    }

    fn answers(&self, url: &str) -> Result<()> {
        let mut curl = Command::new("curl");
        curl.args(["-sf", url]);
        let answered = wait::within(LIMIT, || process::run(&mut curl, self.place.path()).ok());
        answered
            .map(drop)
            .ok_or_else(|| Error::invalid(format!("{url} does not answer with 200")))
    }

    /// Gives how long so many requests took, in milliseconds.
    fn load(&mut self, which: usize) -> Result<f64> {
        let mut wrk = Command::new("taskset");
        wrk.args([
            "-c",
            CORES[1],
            WRK,
            "-t1",
            "-c64",
            SECONDS,
            &self.urls[which],
        ]);
        let said = process::run(&mut wrk, self.place.path())?.stdout;
        let rate = rate(&said)?;
        self.rates[which].push(rate);
        Ok(REQUESTS / rate * 1e3)
    }

    fn peak_kib(&self) -> u64 {
        let peaks = self
            .daemons
            .iter()
            .filter_map(|daemon| status_kib(daemon.id(), "VmHWM:"));
        peaks.max().unwrap_or_default()
    }
}

/// Requests a second, as wrk tells them; an answer that is no 200, or none at all, is a failure.
fn rate(said: &str) -> Result<f64> {
    let bad = || Error::invalid(format!("what wrk says is no clean run: {said}"));
    if said.contains("Non-2xx") || said.contains("Socket errors") {
        return Err(bad());
    }
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    line.and_then(|number| number.trim().parse().ok())
        .ok_or_else(bad)
}

fn free_port() -> Result<u16> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    port.map(|address| address.port())
        .map_err(|error| Error::io("bind", Path::new("127.0.0.1:0"), error))
}

/// `pefo run` on the server's core.
fn daemon(master: &Master) -> Child {
    let mut command = Command::new("taskset");
    command
        .args(["-c", CORES[0]])
        .arg(master.binary())
        .arg("--config")
        .arg(master.config_path())
        .arg("run")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Child::spawn(&mut command)
}

/// nginx with one worker on the same core, which answers from memory and keeps its connections as long.
fn nginx(place: &Path, port: u16) -> Result<Child> {
    let path = |name: &str| -> PathBuf { place.join(name) };
    let text = format!(
        "daemon off;\nworker_processes 1;\npid {};\nerror_log {} crit;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 100000000;\n  client_body_temp_path {};\n  proxy_temp_path {};\n\
           fastcgi_temp_path {};\n  uwsgi_temp_path {};\n  scgi_temp_path {};\n  server {{\n    listen 127.0.0.1:{port};\n\
             location / {{ default_type text/plain; add_header Cache-Control no-store; return 200 \"active in epoch 1\\n\"; }}\n  }}\n}}\n",
        path("nginx.pid").display(),
        path("nginx.log").display(),
        path("body").display(),
        path("proxy").display(),
        path("fastcgi").display(),
        path("uwsgi").display(),
        path("scgi").display(),
    );
    let conf = path("nginx.conf");
    std::fs::write(&conf, text).map_err(|error| Error::io("write", &conf, error))?;
    let mut command = Command::new("taskset");
    command
        .args(["-c", CORES[0], NGINX, "-c"])
        .arg(&conf)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(Child::spawn(&mut command))
}

fn run(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let place = world.place("health")?;
    let mut health = Health::start(&place)?;
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut health)?;
    let row = Measured::of(&measured, "nginx, one worker on the same core, return 200")?;
    let told = health
        .rates
        .each_ref()
        .map(|rates| median(rates).unwrap_or_default());
    let note = format!(
        "a second: /active {:.0}, /passive?lag=30s {:.0}, nginx {:.0}; wanted ≥ 20000: {}",
        told[0],
        told[1],
        told[2],
        if told[0].min(told[1]) >= REQUESTS {
            "yes"
        } else {
            "NO"
        }
    );
    Ok(row.memory_kib(health.peak_kib()).note(Some(&note)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_answers_that_are_no_200_counts_for_nothing() {
        let clean = "Running 3s test\n  70 requests in 3.0s, 9MB read\nRequests/sec:  70123.45\nTransfer/sec: 9MB\n";
        assert_eq!(rate(clean).unwrap(), 70_123.45);
        assert!(rate(&format!("{clean}  Non-2xx or 3xx responses: 3\n")).is_err());
        assert!(rate(&format!("{clean}  Socket errors: connect 0, read 3\n")).is_err());
        assert!(rate("unable to connect").is_err());
    }
}
