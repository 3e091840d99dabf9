//! With Debian's r10k and a git repository.

use pefo_testkit::code::ControlRepository;
use pefo_testkit::masters::Master;
use pefo_testkit::skip;

use super::{carry, configure, drift, environments, write};
use crate::pair::Pair;

/// A pair that deploys from one control repository, each with its own r10k.
struct World {
    pair: Pair,
    control: ControlRepository,
}

impl World {
    fn new() -> Option<Self> {
        let control = skip::need(ControlRepository::create())?;
        control.commit(
            "production",
            &[
                ("manifests/site.pp", "node default {}\n"),
                ("Puppetfile", ""),
            ],
        );
        control.commit("test", &[("manifests/site.pp", "# test\n")]);
        let Pair { mut a, mut b, ca } = Pair::seeded()?;
        for master in [&mut a, &mut b] {
            let config = master.directory().join("r10k.yaml");
            control.r10k_config(&config, &environments(master));
            configure(master, &format!("config = \"{}\"", config.display()));
        }
        Some(Self {
            pair: Pair { a, b, ca },
            control,
        })
    }

    /// In step.
    fn deployed() -> Option<Self> {
        let world = Self::new()?;
        for master in [&world.pair.a, &world.pair.b] {
            let run = master.pefo(["code", "deploy"]).exits(0);
            assert!(
                run.stdout.contains("production: new, at "),
                "{}",
                run.stdout
            );
            assert!(run.stdout.contains("test: new, at "), "{}", run.stdout);
        }
        assert!(carry(&world.pair).exits(0).stdout.contains("in step"));
        Some(world)
    }
}

fn short(commit: &str) -> &str {
    &commit[..12]
}

#[track_caller]
fn says(master: &Master, code: i32, told: &str) {
    let run = master.pefo(["code", "status"]).exits(code);
    assert!(run.stdout.contains(told), "{told}: {}", run.stdout);
}

#[test]
fn a_commit_that_only_one_master_has_is_named_on_both_until_the_other_deploys_it() {
    let Some(World { pair, control }) = World::deployed() else {
        return;
    };
    let Pair { a, b, .. } = &pair;
    let _watch = b.watch();
    says(a, 0, "PEFO OK: 2 environments are the same on 1 of 1 peers");
    says(b, 0, "PEFO OK: 2 environments");
    assert!(
        b.pefo(["check"])
            .stdout
            .contains("ok       code         /usr/bin/r10k; ")
    );

    let old = control.commit("production", &[]);
    a.pefo(["code", "deploy"]).exits(0);
    b.pefo(["code", "deploy"]).exits(0);
    let new = control.commit(
        "production",
        &[("manifests/site.pp", "node default { include base }\n")],
    );
    let shown = a
        .pefo(["code", "deploy", "production", "--dry-run"])
        .exits(0)
        .stdout;
    assert!(
        shown.starts_with("would run: r10k deploy environment production --modules --config "),
        "{shown}"
    );
    let run = a.pefo(["code", "deploy", "production"]).exits(0);
    assert_eq!(
        run.stdout,
        format!("production: at {} → at {}\n", short(&old), short(&new))
    );
    let run = carry(&pair).exits(0);
    let on_b = format!(
        "production: here at {}, on puppet-a.lab at {}\n",
        short(&old),
        short(&new)
    );
    assert!(
        run.stdout.contains(&format!("  drift: {on_b}")),
        "{}",
        run.stdout
    );
    says(b, 1, &on_b);
    let on_a = format!(
        "production: here at {}, on puppet-b.lab at {}\n",
        short(&new),
        short(&old)
    );
    says(a, 1, &on_a);
    let told = b.pefo(["code", "status", "--json"]).exits(1).json();
    assert_eq!(
        drift(&told["details"]),
        [("production".to_owned(), "other_revision".to_owned())]
    );
    assert_eq!(
        told["details"]["drift"][0]["there"],
        new.as_str(),
        "{told:#}"
    );
    b.pefo(["status"]).exits(1);

    let run = b
        .pefo(["code", "deploy", "production", "--json"])
        .exits(0)
        .json();
    assert_eq!(
        run["details"]["environments"][0]["after"],
        new.as_str(),
        "{run:#}"
    );
    says(b, 0, "PEFO OK");
    says(a, 0, "PEFO OK");
    // A deployment by hand is seen at once.
    b.pefo(["status"]).exits(0);
    let run = b.pefo(["code", "deploy", "--json"]).exits(0).json();
    assert_eq!(run["outcome"], "unchanged", "{run:#}");

    // By hand, after it was deployed.
    write(b, "test/manifests/site.pp", "# test!\n");
    says(b, 1, "test: other files than on puppet-a.lab, both at ");
    says(b, 1, "changed by hand?: manifests/site.pp");
    b.pefo(["code", "deploy", "test"]).exits(0);
    says(b, 0, "PEFO OK");
}

#[test]
fn an_environment_that_comes_or_goes_is_named_with_its_commit() {
    let Some(World { pair, control }) = World::deployed() else {
        return;
    };
    let Pair { a, b, .. } = &pair;
    let new = control.commit("feature/one", &[("manifests/site.pp", "")]);
    a.pefo(["code", "deploy", "feature_one"]).exits(0);
    carry(&pair).exits(0);
    says(
        b,
        1,
        &format!(
            "feature_one: not here; on puppet-a.lab (at {})",
            short(&new)
        ),
    );
    control.remove("test");
    let run = a.pefo(["code", "deploy"]).exits(0);
    assert!(run.stdout.contains("test: gone\n"), "{}", run.stdout);
    carry(&pair).exits(0);
    says(b, 1, "test: not on puppet-a.lab; here (at ");
    let run = b.pefo(["code", "deploy", "test"]).exits(1);
    assert!(
        run.stderr.contains("'test' cannot be found in any source"),
        "{}",
        run.stderr
    );
    b.pefo(["code", "deploy"]).exits(0);
    says(b, 0, "PEFO OK: 2 environments");
}

#[test]
fn a_module_that_moved_on_is_named_and_one_that_cannot_be_had_leaves_its_environment_unfinished() {
    let Some(World { pair, control }) = World::deployed() else {
        return;
    };
    let Pair { a, b, .. } = &pair;
    let modules = skip::need(ControlRepository::create()).unwrap();
    let one = modules.commit("main", &[("manifests/init.pp", "class apache {}\n")]);
    let puppetfile = |url: &str| format!("mod 'apache', git: '{url}', branch: 'main'\n");
    let url = modules.url().display().to_string();
    control.commit("production", &[("Puppetfile", &puppetfile(&url))]);
    a.pefo(["code", "deploy"]).exits(0);
    let two = modules.commit("main", &[("manifests/init.pp", "class apache { }\n")]);
    b.pefo(["code", "deploy"]).exits(0);
    carry(&pair).exits(0);
    let told = format!("apache here {}, there {}\n", short(&two), short(&one));
    says(b, 1, &told);
    a.pefo(["code", "deploy"]).exits(0);
    carry(&pair).exits(0);
    says(b, 0, "PEFO OK");

    // r10k goes no further than a module that is not there; what it has done of others stands.
    let bad = control.commit("production", &[("Puppetfile", &puppetfile("/nowhere.git"))]);
    control.commit("test", &[("manifests/site.pp", "# newer\n")]);
    let run = b.pefo(["code", "deploy", "production"]).exits(1);
    assert!(run.stderr.contains("/nowhere.git"), "{}", run.stderr);
    assert!(
        run.stdout
            .contains("production: FAILED: its deployment did not end well"),
        "{}",
        run.stdout
    );
    let run = b.pefo(["code", "status", "--json"]).exits(1).json();
    assert_eq!(run["details"]["drift"][0]["here"], bad.as_str(), "{run:#}");
    let good = control.commit("production", &[("Puppetfile", &puppetfile(&url))]);
    for master in [a, b] {
        master.pefo(["code", "deploy"]).exits(0);
    }
    carry(&pair).exits(0);
    says(b, 0, "PEFO OK");
    let run = b
        .pefo(["code", "deploy", "production", "--json"])
        .exits(0)
        .json();
    assert_eq!(run["details"]["environments"][0]["before"], good.as_str());
    assert_eq!(run["outcome"], "unchanged", "{run:#}");
}

#[test]
fn the_spare_follows_by_itself_where_that_is_asked_for() {
    let Some(World { mut pair, control }) = World::new() else {
        return;
    };
    crate::evidence::edit_config(&pair.b, "[code]", "[code]\ndeploy = \"on-drift\"");
    pair.a.pefo(["code", "deploy"]).exits(0);
    // Nothing was ever deployed there.
    let run = carry(&pair).exits(0);
    assert!(
        run.stdout.contains("deployed production: new, at "),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("in step with puppet-a.lab"),
        "{}",
        run.stdout
    );
    let new = control.commit("production", &[("manifests/site.pp", "# new\n")]);
    pair.a.pefo(["code", "deploy", "production"]).exits(0);
    let run = carry(&pair).exits(0);
    assert!(
        run.stdout.contains(&format!("→ at {}", short(&new))),
        "{}",
        run.stdout
    );
    assert!(!run.stdout.contains("deployed test"), "{}", run.stdout);
    says(&pair.b, 0, "PEFO OK");
    pair.ca.sign("node1.lab").unwrap();
    pair.sync();
}
