//! The operator's guide, typed as it stands on two fresh machines: from the package to a green status, then the
//! failover and the way home.
//!
//! Whatever the guide leaves out fails here: nothing is done on the machines but what a site has before it begins
//! (a master with its CA, a host with a certificate of that CA, sshd on both) and what stands on the page.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pefo_testkit::machine::Machine;
use pefo_testkit::masters::{Run, built_binary};
use pefo_testkit::network::Network;
use pefo_testkit::{place, skip, wait};

const GUIDE: &str = include_str!("../../../docs/guide.md");
const A: &str = "puppet-a.example.com";
const B: &str = "puppet-b.example.com";
const SHARED: &str = "puppet.example.com";
const CADIR: &str = "/etc/puppet/puppetserver/ca";
/// Longer than anything takes that runs by itself.
const LIMIT: Duration = Duration::from_secs(90);
/// So many characters are typed a minute by somebody who reads along.
const TYPED_A_MINUTE: usize = 150;

/// On which machine a line is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prompt {
    Both,
    A,
    B,
}

/// A line of the guide, of which section.
#[derive(Debug)]
struct Line {
    section: u8,
    prompt: Prompt,
    text: String,
}

/// What the guide has its reader type. A line that ends with `<<'END'` goes on up to `END`.
fn lines() -> Vec<Line> {
    const PROMPTS: [(&str, Prompt); 5] = [
        ("both# ", Prompt::Both),
        ("active# ", Prompt::A),
        ("passive# ", Prompt::B),
        ("old# ", Prompt::A),
        ("new active# ", Prompt::B),
    ];
    let (mut section, mut lines) = (0, Vec::new());
    let mut page = GUIDE.lines();
    while let Some(line) = page.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            let number = heading.split_once('.').map(|(number, _)| number);
            section = number.and_then(|number| number.parse().ok()).unwrap_or(0);
        }
        let Some(line) = line.strip_prefix("    ") else {
            continue;
        };
        let typed = PROMPTS
            .iter()
            .find_map(|(prompt, at)| Some((line.strip_prefix(prompt)?, *at)));
        let Some((text, prompt)) = typed else {
            continue;
        };
        let mut text = text.to_owned();
        if text.ends_with("<<'END'") {
            for more in page.by_ref() {
                let more = more.strip_prefix("    ").unwrap_or(more);
                text.push_str(&format!("\n{more}"));
                if more == "END" {
                    break;
                }
            }
        }
        lines.push(Line {
            section,
            prompt,
            text,
        });
    }
    lines
}

/// Two machines as a site has them before it begins.
struct Site {
    network: Network,
    a: Machine,
    b: Machine,
    /// The pairing line that was printed last, to be copied.
    copied: String,
}

impl Site {
    fn prepare() -> Option<Self> {
        let network = skip::need(Network::create(["a", "b"]))?;
        let address = |name| network.host(name).address();
        let hosts = format!("{} {A} {SHARED}\n{} {B}", address("a"), address("b"));
        let a = skip::need(Machine::boot(network.host("a"), A, &hosts))?;
        let b = skip::need(Machine::boot(network.host("b"), B, &hosts))?;
        for machine in [&a, &b] {
            machine
                .run("ssh-keygen -A && systemctl enable --now ssh")
                .exits(0);
        }
        a.run(&format!(
            "puppetserver ca setup --certname {A} --subject-alt-names {A},{SHARED} && \
             puppetserver ca generate --force --ca-client --certname {B} --subject-alt-names {B},{SHARED} && \
             chown -R puppet:puppet {CADIR} /var/lib/puppet/ssl"
        ))
        .exits(0);
        for path in [
            "crl.pem",
            "certs/ca.pem",
            &format!("certs/{B}.pem"),
            &format!("private_keys/{B}.pem"),
        ] {
            let path = Path::new("/var/lib/puppet/ssl").join(path);
            let dir = path.parent().unwrap().display().to_string();
            b.run(&format!("mkdir -p {dir}")).exits(0);
            std::fs::copy(a.path(&path), b.path(&path)).unwrap();
        }
        b.run("chown -R puppet:puppet /var/lib/puppet/ssl").exits(0);
        Some(Self {
            network,
            a,
            b,
            copied: String::new(),
        })
    }

    fn machines(&self, prompt: Prompt) -> Vec<&Machine> {
        match prompt {
            Prompt::Both => vec![&self.a, &self.b],
            Prompt::A => vec![&self.a],
            Prompt::B => vec![&self.b],
        }
    }

    /// Types a line; what it prints is copied where a later one takes it.
    fn type_in(&mut self, line: &Line) {
        let text = line.text.replace("pefo-pair-1.…", self.copied.trim());
        let runs: Vec<Run> = self
            .machines(line.prompt)
            .into_iter()
            .map(|machine| machine.run(&format!("cd /root && {text}")))
            .collect();
        for run in runs {
            // The guide says so: what has not come yet is told.
            let is_to_come = line.text == "pefo demote" && run.code == 4;
            let run = if is_to_come { run } else { run.exits(0) };
            if run.stdout.starts_with("pefo-pair-1.") {
                self.copied = run.stdout;
            }
        }
    }

    fn type_section(&mut self, lines: &[Line], section: u8) {
        let of_it = |line: &&Line| line.section == section;
        assert!(
            lines.iter().any(|line| of_it(&line)),
            "section {section} has no lines"
        );
        for line in lines.iter().filter(of_it) {
            self.type_in(line);
        }
    }
}

/// The package, made from the program that is being tested, in a directory of its own.
fn package(dir: &Path) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/build-deb.sh");
    let program = built_binary();
    let run = std::process::Command::new("sh")
        .arg(script)
        .env("PEFO_PAGES", program.with_file_name("pages"))
        .env("PEFO_BINARY", program)
        .env("PEFO_DEB_DIR", dir)
        .env("PEFO_DEB_COMPRESSION", "-Znone")
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    PathBuf::from(String::from_utf8(run.stdout).unwrap().trim())
}

/// Whether `name` is signed on a machine's CA.
fn is_signed(machine: &Machine, name: &str) -> bool {
    machine.path(format!("{CADIR}/signed/{name}.pem")).exists()
}

fn sign(machine: &Machine, name: &str) {
    machine
        .run(&format!(
            "puppetserver ca generate --force --ca-client --certname {name}"
        ))
        .exits(0);
}

#[test]
fn a_new_operator_gets_from_the_guide_alone_to_a_green_pair_through_a_failover_and_home_again() {
    let Some(mut site) = Site::prepare() else {
        return;
    };
    let lines = lines();
    let built = place::directory("package");
    let deb = package(built.path());
    for machine in [&site.a, &site.b] {
        std::fs::copy(&deb, machine.path("/root").join(deb.file_name().unwrap())).unwrap();
    }
    drop(built);

    let begun = Instant::now();
    for section in 1..=6 {
        site.type_section(&lines, section);
    }
    let typed: usize = lines
        .iter()
        .filter(|line| line.section <= 6)
        .map(|line| line.text.chars().count())
        .sum();
    let minutes = typed.div_ceil(TYPED_A_MINUTE) as u64;
    let all = begun.elapsed() + Duration::from_secs(minutes * 60);
    assert!(
        all < Duration::from_secs(600),
        "{typed} characters, {all:?} in all"
    );
    for machine in [&site.a, &site.b] {
        let status = machine.run("pefo status").exits(0);
        assert!(status.stdout.starts_with("PEFO OK"), "{}", status.stdout);
    }
    // It runs by itself.
    sign(&site.a, "node1.example.com");
    wait::until("the certificate on the spare", LIMIT, || {
        is_signed(&site.b, "node1.example.com")
    });

    // The active is gone.
    site.network.cut(site.network.host("a"));
    site.type_section(&lines, 8);
    let asked =
        "curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:8008/active";
    wait::until("the new active's health", LIMIT, || {
        site.b.run(asked).stdout == "200"
    });
    sign(&site.b, "node2.example.com");

    // It comes back, and is told.
    site.network.mend(site.network.host("a"));
    wait::until("the old active is fenced", LIMIT, || {
        site.a.run("pefo status").stdout.contains("FENCED")
    });
    assert_eq!(site.a.run(asked).stdout, "503");
    site.type_section(&lines, 9);
    let role = |machine: &Machine| {
        let status = machine.run("pefo status --json").stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["details"]["role"].as_str().map(str::to_owned)
    };
    assert_eq!(role(&site.a).as_deref(), Some("active"));
    assert_eq!(role(&site.b).as_deref(), Some("passive"));
    assert!(is_signed(&site.a, "node2.example.com"));
    let machines = [&site.a, &site.b];
    let green = || {
        let runs = machines.map(|machine| machine.run("pefo status"));
        runs.iter().all(|run| run.code == 0).then_some(())
    };
    if wait::within(LIMIT, green).is_none() {
        let said = machines.map(|machine| machine.run("pefo status").stdout);
        panic!("not green again:\n{}{}", said[0], said[1]);
    }
}
