//! What a promotion warns of before it is done, and what follows it: facts, node groups, classes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use pefo_testkit::classifier::{ClassifierDouble, Fault, Options};
use pefo_testkit::masters::{self, Master};
use serde_json::{Value, json};

use crate::evidence::refused_as;
use crate::pair::{A, B, Pair};

/// A PuppetDB that holds these resources, whatever it is asked.
struct PuppetDb {
    port: u16,
    thread: Option<JoinHandle<()>>,
}

impl PuppetDb {
    fn holding(rows: Value) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let body = rows.to_string();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut request = String::new();
                while stream.read_line(&mut request).unwrap() > 2 {}
                if request.is_empty() {
                    return;
                }
                assert!(
                    request.starts_with("GET /pdb/query/v4/resources?query="),
                    "{request}"
                );
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        Self {
            port,
            thread: Some(thread),
        }
    }
}

impl Drop for PuppetDb {
    fn drop(&mut self) {
        // A connection that asks nothing ends it.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

#[test]
fn before_a_promotion_the_operator_is_told_how_many_exported_resources_its_puppetdb_holds() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let puppetdb = PuppetDb::holding(json!([
        {"type": "Sshkey", "count": 340}, {"type": "Nagios_host", "count": 12},
    ]));
    let section = format!(
        "[puppetdb]\nurl = \"http://127.0.0.1:{}\"\n\n",
        puppetdb.port
    );
    pair.b.configure(&section);
    let b = &pair.b;
    let warning = "352 exported resources (Nagios_host 12, Sshkey 340); ";
    // Also where something else stands in its way.
    refused_as(b, &["promote", "--dry-run"], "peer-active");
    let shown = b.pefo(["promote", "--dry-run"]).exits(3).stdout;
    assert!(
        shown.contains("warning: PuppetDB at ") && shown.contains(warning),
        "{shown}"
    );
    let over = ["promote", "--dry-run", "--accept", "peer-active"];
    let plan = b.pefo(over.into_iter().chain(["--json"])).exits(0).json();
    let warnings = plan["details"]["plan"]["warnings"].as_array().unwrap();
    assert!(
        warnings.len() == 1 && warnings[0].as_str().unwrap().contains(warning),
        "{plan:#}"
    );
    let checked = b.pefo(["check"]).exits(0).stdout;
    assert!(checked.contains("352 exported resources"), "{checked}");

    // One that is down keeps nothing from being done; it is said.
    drop(puppetdb);
    let shown = b.pefo(over).exits(0).stdout;
    assert!(
        shown.contains("warning: PuppetDB does not say how many exported resources it holds"),
        "{shown}"
    );
    b.pefo(["check"]).exits(1);
    pair.a.stop_sshd();
    let run = pair.b.pefo(["promote"]).exits(0);
    assert!(run.stderr.contains("PuppetDB does not say"), "{run:?}");
}

/// A pair of which B has a classifier, with more in that section.
fn classifying(more: &str) -> Option<(Pair, ClassifierDouble)> {
    let mut pair = Pair::prepared()?;
    let double = ClassifierDouble::start(Options::default().allow(B));
    pair.b.use_classifier(&double, more);
    masters::pair(&pair.a, &pair.b);
    Some((pair.seed(), double))
}

fn writes(double: &ClassifierDouble) -> usize {
    let requests = double.requests();
    let puts = requests.iter().filter(|request| request.method == "PUT");
    puts.count()
}

#[test]
fn after_a_promotion_the_masters_own_node_groups_are_there_once_whatever_else_fails() {
    let Some((mut pair, double)) = classifying("failover_groups = true\nrefresh_classes = true")
    else {
        return;
    };
    let moved = pair.b.directory().join("moved");
    pair.b.configure(&format!(
        "[hooks]\nrole_changed = [\"sh\", \"-c\", \"test -e {}\"]\n\n",
        moved.display()
    ));
    pair.a.stop_sshd();
    let b = &pair.b;
    double.set_fault(Fault::ServerError);
    let run = b.pefo(["promote"]).exits(4);
    for part in ["classifier.failover_groups: ", "hooks: "] {
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
    assert_eq!(writes(&double), 0);

    double.clear_faults();
    let run = b.pefo(["promote"]).exits(4);
    assert!(!run.stderr.contains("failover_groups"), "{}", run.stderr);
    let groups = double.groups();
    let rule = |name: &str| {
        let group = groups.iter().find(|group| group["name"] == name);
        group.unwrap_or_else(|| panic!("{name} is not in {groups:#?}"))["rule"].clone()
    };
    let is = |mode: &str| json!(["=", ["fact", "pe_failover_mode"], mode]);
    assert_eq!(rule("pe_failover active"), is("active"));
    assert_eq!(rule("pe_failover passive"), is("passive"));
    assert_eq!(
        rule("pe_failover"),
        json!(["or", is("active"), is("passive")])
    );
    assert_eq!(writes(&double), 3);

    std::fs::write(&moved, "").unwrap();
    b.pefo(["promote"]).exits(0);
    assert_eq!((double.groups(), writes(&double)), (groups, 3));
    b.pefo(["promote"]).exits(6);
}

fn facts(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn facts_in(master: &mut Master, name: &str) -> PathBuf {
    let path = master.directory().join("facts.d").join(name);
    master.configure(&format!("[facts]\nfile = \"{}\"\n\n", path.display()));
    path
}

#[test]
fn the_facts_follow_the_role_and_the_classes_are_read_anew() {
    let Some((mut pair, double)) = classifying("refresh_classes = true") else {
        return;
    };
    let on_a = facts_in(&mut pair.a, "pe_failover.txt");
    let on_b = facts_in(&mut pair.b, "pe_failover.yaml");
    pair.a.stop_sshd();
    pair.b.pefo(["promote"]).exits(0);
    let text = facts(&on_b);
    for fact in [
        "pe_failover_mode: \"active\"\n",
        &format!("pe_failover_passive_master: \"{A}\"\n"),
        &format!("pe_failover_pdb_peer: \"{A}\"\n"),
        "pe_failover_key: \"AAAA",
    ] {
        assert!(text.contains(fact), "{fact} is not in\n{text}");
    }
    assert_eq!(
        (double.count("POST", "/v1/update-classes"), writes(&double)),
        (1, 0)
    );

    pair.a.restart_sshd();
    assert!(!on_a.exists());
    pair.a.pefo(["demote", "--wait", "0"]).exits(4);
    let text = facts(&on_a);
    for fact in [
        "pe_failover_mode=passive\n".to_owned(),
        format!("pe_failover_passive_master={A}\n"),
        format!("pe_failover_pdb_peer={B}\n"),
    ] {
        assert!(text.contains(&fact), "{fact} is not in\n{text}");
    }
}
