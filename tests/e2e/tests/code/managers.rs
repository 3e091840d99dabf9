//! With Code Manager's command, and with programs that misbehave.

use std::time::{Duration, Instant};

use pefo_core::lock::Lock;
use pefo_testkit::code::CodeManagerDouble;
use pefo_testkit::masters::Master;

use super::{carry, configure, environments, plain, read, write};
use crate::pair::Pair;

const ONE: &str = "1111111111111111111111111111111111111111";
const TWO: &str = "2222222222222222222222222222222222222222";

fn managed(master: &mut Master) -> CodeManagerDouble {
    let double = CodeManagerDouble::create(&environments(master));
    configure(
        master,
        &format!(
            "manager = \"code-manager\"\nprogram = \"{}\"\nconfig = \"{}\"\ntoken_file = \"{}\"",
            double.program().display(),
            double.config().display(),
            double.token_file().display(),
        ),
    );
    for name in ["production", "test"] {
        double.publish(name, ONE, "node default {}\n");
    }
    double
}

#[test]
fn code_manager_deploys_and_what_it_fails_at_is_told_by_environment() {
    let Some(Pair { mut a, mut b, ca }) = Pair::seeded() else {
        return;
    };
    let (on_a, on_b) = (managed(&mut a), managed(&mut b));
    let pair = Pair { a, b, ca };
    let Pair { a, b, .. } = &pair;
    for master in [a, b] {
        let run = master.pefo(["code", "deploy"]).exits(0);
        assert_eq!(
            run.stdout,
            "production: new, at 111111111111\ntest: new, at 111111111111\n"
        );
    }
    assert!(carry(&pair).exits(0).stdout.contains("in step"));
    for double in [&on_a, &on_b] {
        double.publish("production", TWO, "# new\n");
        double.publish("test", TWO, "# new\n");
    }
    a.pefo(["code", "deploy"]).exits(0);
    let run = carry(&pair).exits(0);
    assert!(
        run.stdout
            .contains("production: here at 111111111111, on puppet-a.lab at 222222222222"),
        "{}",
        run.stdout
    );

    // One of the two cannot be deployed.
    on_b.fail("test");
    let run = b.pefo(["code", "deploy"]).exits(4);
    assert_eq!(
        run.stdout,
        "production: at 111111111111 → at 222222222222\n\
         test: FAILED: Errors while deploying environment 'test' (exit code: 1): ERROR -> no such branch\n"
    );
    assert!(
        run.stderr.contains("failed: test: Errors while deploying"),
        "{}",
        run.stderr
    );
    let report = b.pefo(["code", "deploy", "test", "--json"]).exits(1).json();
    assert_eq!(report["outcome"], "failed");
    assert_eq!(
        report["details"]["environments"][0]["after"], ONE,
        "{report:#}"
    );
    let run = b.pefo(["code", "status"]).exits(1);
    assert!(
        run.stdout.contains("1 of 2 environments drift"),
        "{}",
        run.stdout
    );

    // Its word alone does not count.
    on_b.mend();
    on_b.keep_back("test");
    let run = b.pefo(["code", "deploy", "test"]).exits(1);
    assert!(
        run.stderr
            .contains("says that 222222222222 is deployed, and here is 111111111111"),
        "{}",
        run.stderr
    );
    on_b.mend();
    b.pefo(["code", "deploy", "test"]).exits(0);
    b.pefo(["code", "status"]).exits(0);

    for (said, code, told) in [
        (
            "<html>502 Bad Gateway</html>",
            0,
            "says what is no answer to a deployment: <html>502 Bad Gateway</html>",
        ),
        ("", 7, "exit code 7"),
        ("[]", 0, "says nothing about it"),
        (
            "[{\"environment\": \"production\", \"status\": \"queued\"}]",
            0,
            "it is \"queued\" still",
        ),
    ] {
        on_b.say(said, code);
        let run = b.pefo(["code", "deploy", "production"]).exits(1);
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
    on_b.mend();
    let asked = on_b.asked();
    let token = on_b.token_file().display().to_string();
    assert!(
        asked
            .iter()
            .all(|line| line.contains(&format!("--token-file {token} deploy "))),
        "{asked:?}"
    );
    // A token that others may read is found by check.
    b.pefo(["check"]).exits(0);
    on_b.expose_token(true);
    let run = b.pefo(["check"]).exits(1);
    assert!(
        run.stdout.contains("is open to others than its owner"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_program_that_does_not_end_is_stopped_and_one_that_is_not_there_is_named() {
    let Some(pair) = plain("command = [\"sleep\", \"600\"]\ntimeout = 1") else {
        return;
    };
    let begun = Instant::now();
    let run = pair.b.pefo(["code", "deploy"]).exits(1);
    assert!(
        run.stderr.contains("sleep 600: stopped after 1 s"),
        "{}",
        run.stderr
    );
    assert!(begun.elapsed() < Duration::from_secs(60));
    // It takes no names.
    let run = pair.b.pefo(["code", "deploy", "test"]).exits(2);
    assert!(run.stderr.contains("has no {} for one"), "{}", run.stderr);
    let edit = |master: &Master, command: &str| {
        crate::evidence::edit_config(master, "command = [\"sleep\", \"600\"]", command);
    };
    edit(&pair.a, "command = [\"/nowhere/deploy\", \"{}\"]");
    let run = pair.a.pefo(["code", "deploy"]).exits(1);
    assert!(
        run.stdout.contains("production: FAILED: "),
        "{}",
        run.stdout
    );
    let run = pair.a.pefo(["check"]).exits(1);
    assert!(
        run.stdout
            .contains("/nowhere/deploy is not there, or is no program"),
        "{}",
        run.stdout
    );

    // As another account, which may write there.
    let log = pair.b.directory().join("who.log");
    write(&pair.b, "who", "");
    std::fs::write(&log, "").unwrap();
    std::os::unix::fs::chown(&log, Some(65534), None).unwrap();
    let who = format!(
        "command = [\"sh\", \"-c\", \"echo $0 by $(id -un) >> {}\", \"{{}}\"]\nrun_as = \"nobody\"",
        log.display()
    );
    edit(&pair.b, &who);
    let run = pair.b.pefo(["code", "deploy", "--json"]).exits(0).json();
    assert_eq!(run["outcome"], "unchanged", "{run:#}");
    assert_eq!(read(&log), "production by nobody\ntest by nobody\n");
    let _lock = Lock::take(&pair.b.state().join("locks/code-deploy.lock")).unwrap();
    pair.b.pefo(["code", "deploy"]).exits(5);
}
