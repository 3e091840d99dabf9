//! `pefo schedule print`: what it prints for cron runs as it stands; systemd's units are run in `schedule/units.rs`.

use std::process::{Command, Stdio};

use pefo_testkit::masters::Run;

use super::answer;
use super::world::World;

/// Runs a command line as cron does: a shell, hardly any environment, no terminal.
fn as_cron_does(line: &str) -> Run {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", line])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SHELL", "/bin/sh")
        .env("HOME", "/root");
    let output = command.stdin(Stdio::null()).output().unwrap();
    Run {
        line: line.to_owned(),
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn is_minute(text: &str) -> bool {
    text == "*" || text.parse::<u8>().is_ok_and(|minute| minute < 60)
}

#[test]
fn each_line_of_a_schedule_runs_as_it_stands_on_either_master_and_gives_cron_nothing_to_mail() {
    let Some(world) = World::in_step() else {
        return;
    };
    let commands = [
        "ca push",
        "nc push",
        "files push",
        "db push",
        "ca apply",
        "nc restore",
        "files apply",
        "db restore",
    ];
    for master in [&world.a, &world.b] {
        let print = ["schedule", "print", "--format", "cron"];
        let cron = master.pefo(print).exits(0).stdout;
        let mut seen = Vec::new();
        let at_boot = cron
            .lines()
            .find_map(|line| line.strip_prefix("@reboot root "));
        let run = as_cron_does(at_boot.unwrap()).exits(0);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
        let is_entry = |line: &&str| line.starts_with(['*', '0', '1', '2', '3']);
        for line in cron.lines().filter(is_entry) {
            let fields: Vec<&str> = line.splitn(7, ' ').collect();
            let [minute, hour, day, month, weekday, user, command] = fields[..] else {
                panic!("{line}")
            };
            assert!(
                is_minute(minute) && [hour, day, month, weekday] == ["*"; 4] && user == "root",
                "{line}"
            );
            let run = as_cron_does(command).exits(0);
            assert_eq!(
                (run.stdout.as_str(), run.stderr.as_str()),
                ("", ""),
                "cron would mail: {line}"
            );
            let known = commands.into_iter();
            seen.extend(known.filter(|known| command.ends_with(&format!(" {known}"))));
        }
        assert_eq!(seen, commands, "{cron}");
        let json = answer(
            &master.pefo(print.into_iter().chain(["--json"])).exits(0),
            "schedule print",
        );
        let entries = json["details"]["entries"].as_array().unwrap();
        assert_eq!(entries.len(), commands.len());
    }
}
