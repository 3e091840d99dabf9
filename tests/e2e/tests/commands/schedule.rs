//! `pefo schedule print`: what it prints for cron and systemd runs as it stands.

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
fn each_line_of_a_schedule_runs_as_it_stands() {
    let Some(world) = World::in_step() else {
        return;
    };
    for (master, commands) in [
        (&world.a, ["ca push", "nc push", "db push"]),
        (&world.b, ["ca apply", "nc restore", "db restore"]),
    ] {
        let cron = master.pefo(["schedule", "print"]).exits(0).stdout;
        assert_eq!(
            cron,
            master
                .pefo(["schedule", "print", "--format", "cron"])
                .exits(0)
                .stdout
        );
        let mut seen = Vec::new();
        let at_boot = cron
            .lines()
            .find_map(|line| line.strip_prefix("@reboot root "));
        let run = as_cron_does(at_boot.unwrap()).exits(0);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
        for line in cron.lines().filter(|line| !line.starts_with(['#', '@'])) {
            let fields: Vec<&str> = line.splitn(7, ' ').collect();
            let [minute, hour, day, month, weekday, user, command] = fields[..] else {
                panic!("{line}")
            };
            assert!(
                is_minute(minute) && [hour, day, month, weekday] == ["*"; 4] && user == "root",
                "{line}"
            );
            assert!(
                as_cron_does(&format!("{command} --help"))
                    .exits(0)
                    .stdout
                    .contains("Usage: pefo"),
                "{line}"
            );
            let run = as_cron_does(command).exits(0);
            assert_eq!(
                (run.stdout.as_str(), run.stderr.as_str()),
                ("", ""),
                "cron would mail: {line}"
            );
            seen.extend(
                commands
                    .into_iter()
                    .filter(|known| command.ends_with(&format!(" {known}"))),
            );
        }
        assert_eq!(seen, commands, "{cron}");

        let systemd = master
            .pefo(["schedule", "print", "--format", "systemd"])
            .exits(0)
            .stdout;
        let runs: Vec<&str> = systemd
            .lines()
            .filter_map(|line| line.strip_prefix("ExecStart="))
            .collect();
        assert!(runs[0].ends_with("fence"), "{}", runs[0]);
        assert!(systemd.contains("Before=puppetserver.service pe-puppetserver.service"));
        let runs = &runs[1..];
        assert_eq!(runs.len(), commands.len());
        for (line, command) in runs.iter().zip(commands) {
            assert!(line.starts_with('/') && line.ends_with(command), "{line}");
            as_cron_does(&format!("{line} --help")).exits(0);
        }
        let times: Vec<&str> = systemd
            .lines()
            .filter_map(|line| line.strip_prefix("OnCalendar="))
            .collect();
        assert_eq!(times.len(), commands.len());
        for time in times {
            let [hour, minute, second] = time.split(':').collect::<Vec<_>>()[..] else {
                panic!("{time}")
            };
            assert!(hour == "*" && is_minute(minute) && second == "00", "{time}");
        }
        for (command, kind) in commands
            .iter()
            .flat_map(|command| [(command, "service"), (command, "timer")])
        {
            let unit = format!(
                "# /etc/systemd/system/pefo-{}.{kind}\n",
                command.replace(' ', "-")
            );
            assert!(systemd.contains(&unit), "{unit} is not in\n{systemd}");
        }
        let json = answer(
            &master.pefo(["schedule", "print", "--json"]).exits(0),
            "schedule print",
        );
        assert_eq!(
            json["details"]["entries"].as_array().unwrap().len(),
            commands.len()
        );
    }
}
