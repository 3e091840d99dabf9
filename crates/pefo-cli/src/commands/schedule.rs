//! `pefo schedule print`: when each command runs, at the original module's times by default.

use pefo_core::Result;
use pefo_core::reign::Role;
use serde_json::json;

use crate::arguments::ScheduleFormat;
use crate::host::Host;
use crate::outcome::Report;

struct Entry {
    /// Minute of the hour; `None` is every minute.
    minute: Option<u8>,
    command: &'static str,
    what: &'static str,
}

fn entries(host: &Host, role: Role) -> Vec<Entry> {
    let times = &host.config.schedule;
    let (classifier, database) = (
        host.config.classifier.is_some(),
        host.config.database.is_some(),
    );
    let mut entries = Vec::new();
    let mut add = |wanted: bool, minute, command, what| {
        if wanted {
            entries.push(Entry {
                minute,
                command,
                what,
            });
        }
    };
    match role {
        Role::Active => {
            add(true, None, "ca push", "certificates and revocations");
            add(
                classifier,
                Some(times.export_minute),
                "nc push",
                "classification",
            );
            add(database, Some(times.push_minute), "db push", "databases");
        }
        Role::Passive => {
            add(true, None, "ca apply", "certificates and revocations");
            add(
                classifier,
                Some(times.restore_classifier_minute),
                "nc restore",
                "classification",
            );
            add(
                database,
                Some(times.restore_database_minute),
                "db restore",
                "databases",
            );
        }
    }
    entries
}

/// Prints the schedule for this host's role.
pub(super) fn print(host: &Host, format: ScheduleFormat) -> Result<Report> {
    let (station, _) = host.station()?;
    let program = std::env::current_exe()
        .map_or_else(|_| "pefo".to_owned(), |path| path.display().to_string());
    let config = host.config_path.display().to_string();
    let entries = entries(host, station.role);
    let mut text = format!(
        "# pefo on {}, {}\n",
        host.config.site.certname, station.role
    );
    text.push_str(&match format {
        ScheduleFormat::Cron => {
            format!("# who reigns, before anything is signed\n@reboot root {program} --config {config} --quiet fence\n")
        }
        ScheduleFormat::Systemd => at_boot(&program, &config),
    });
    for entry in &entries {
        text.push_str(&match format {
            ScheduleFormat::Cron => cron(entry, &program, &config),
            ScheduleFormat::Systemd => systemd(entry, &program, &config),
        });
    }
    let details = entries
        .iter()
        .map(|entry| json!({ "minute": entry.minute, "command": entry.command }))
        .collect::<Vec<_>>();
    Ok(Report::ok(
        json!({ "role": station.role, "entries": details }),
        text,
    ))
}

/// Asks the peers who reigns before Puppet's server may sign. Where the reign has ended, it stops what
/// `[services] on_fence` names, whose start waits for it.
fn at_boot(program: &str, config: &str) -> String {
    format!(
        "# /etc/systemd/system/pefo-fence.service\n[Unit]\nDescription=pefo: who reigns, before anything is signed\n\
         Wants=network-online.target\nAfter=network-online.target\n\
         Before=puppetserver.service pe-puppetserver.service\n\n[Service]\nType=oneshot\n\
         ExecStart={program} --config {config} --quiet fence\n\n[Install]\nWantedBy=multi-user.target\n\n"
    )
}

fn cron(entry: &Entry, program: &str, config: &str) -> String {
    let minute = entry
        .minute
        .map_or_else(|| "*".to_owned(), |minute| minute.to_string());
    format!(
        "# {}\n{minute} * * * * root {program} --config {config} --quiet {}\n",
        entry.what, entry.command
    )
}

fn systemd(entry: &Entry, program: &str, config: &str) -> String {
    let Entry {
        minute,
        command,
        what,
    } = entry;
    let unit = format!("pefo-{}", command.replace(' ', "-"));
    let when = minute.map_or_else(|| "*:*:00".to_owned(), |minute| format!("*:{minute:02}:00"));
    format!(
        "# /etc/systemd/system/{unit}.service\n[Unit]\nDescription=pefo: {what}\n\n[Service]\nType=oneshot\n\
         ExecStart={program} --config {config} --quiet {command}\n\n\
         # /etc/systemd/system/{unit}.timer\n[Unit]\nDescription=pefo: {what}\n\n[Timer]\nOnCalendar={when}\n\
         AccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n\n"
    )
}
