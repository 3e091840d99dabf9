//! `pefo config` and the configuration's errors; `pefo ca exclude`, which tells what it leads to.

use pefo_testkit::place;

use super::{answer, pefo, words};
use crate::evidence::edit_config;
use crate::pair::Pair;

#[test]
fn the_example_is_a_configuration_that_works_and_show_adds_the_defaults() {
    let dir = place::directory("config");
    let path = dir.path().join("pefo.toml");
    let config = |arguments: &[&str]| {
        pefo(
            ["--config", path.to_str().unwrap(), "config"]
                .into_iter()
                .chain(arguments.iter().copied()),
        )
    };
    std::fs::write(&path, pefo(["config", "example"]).exits(0).stdout).unwrap();
    assert!(config(&["check"]).exits(0).stdout.ends_with(": ok\n"));

    std::fs::write(&path, "[site]\ncertname = \"puppet-a.lab\"\n").unwrap();
    let shown = config(&["show"]).exits(0).stdout;
    for default in [
        "state_dir = \"/var/lib/pefo\"",
        "spool_dir = \"/opt/pe_failover\"",
        "transfer_user = \"pe-transfer\"",
        "connect_timeout = 10",
        "cadir = \"auto\"",
        "max_deletes = 50",
        "push_minute = 20",
        "generations = 5",
    ] {
        assert!(shown.contains(default), "{default} is not in\n{shown}");
    }
    assert_eq!(
        answer(&config(&["show", "--json"]).exits(0), "config show")["details"]["site"]["certname"],
        "puppet-a.lab"
    );
    // What is shown is itself a configuration, and the same one.
    std::fs::write(&path, &shown).unwrap();
    config(&["check"]).exits(0);
    assert_eq!(config(&["show"]).exits(0).stdout, shown);
}

#[test]
fn an_unknown_key_is_an_error_that_names_its_line_and_the_nearest_key() {
    let dir = place::directory("config");
    let path = dir.path().join("pefo.toml");
    for (text, line, key, nearest) in [
        (
            "[site]\ncertname = \"a.lab\"\n\n[ca]\nmax_delets = 3\n",
            5,
            "ca.max_delets",
            "ca.max_deletes",
        ),
        (
            "[site]\ncertname = \"a.lab\"\nspooldir = \"/x\"\n",
            3,
            "site.spooldir",
            "site.spool_dir",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[retention]\ngeneration = 3\n",
            4,
            "retention.generation",
            "retention.generations",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[database]\nname = [\"x\"]\n",
            4,
            "database.name",
            "database.names",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        for command in ["config check", "ca push", "status"] {
            let run = pefo(
                ["--config", path.to_str().unwrap()]
                    .into_iter()
                    .chain(words(command)),
            )
            .exits(2);
            assert!(
                run.stderr
                    .contains(&format!("line {line}: unknown key {key}\n")),
                "{}",
                run.stderr
            );
            assert!(
                run.stderr
                    .contains(&format!("hint: did you mean {nearest}?\n")),
                "{}",
                run.stderr
            );
        }
    }
}

#[test]
fn ca_exclude_tells_why_each_name_stays_away() {
    let Some(pair) = Pair::paired() else { return };
    edit_config(
        &pair.a,
        "[ca]\n",
        "[ca]\nexclude_certs = [\"compiler1.lab\"]\n",
    );
    let text = pair.a.pefo(["ca", "exclude"]).exits(0).stdout;
    assert_eq!(
        text,
        "compiler1.lab: named in [ca] exclude_certs\npuppet-b.lab: the passive's own certificate\n"
    );
    let json = answer(
        &pair.a.pefo(["ca", "exclude", "--json"]).exits(0),
        "ca exclude",
    );
    assert_eq!(json["details"][0]["certname"], "compiler1.lab");
    assert_eq!(
        json["details"][1]["reason"],
        "the passive's own certificate"
    );
    let text = pair.b.pefo(["ca", "exclude"]).exits(0).stdout;
    assert_eq!(text, "puppet-b.lab: the passive's own certificate\n");
}
