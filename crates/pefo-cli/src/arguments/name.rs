//! What each command is called.

use super::{Ca, Command, Config, Db, Init, Nc, Schedule};

impl Command {
    /// The command's words, as reports and records name it.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Init(Init::Active { .. }) => "init active",
            Command::Init(Init::Passive { .. }) => "init passive",
            Command::Check => "check",
            Command::Config(Config::Example) => "config example",
            Command::Config(Config::Check) => "config check",
            Command::Config(Config::Show) => "config show",
            Command::Ca(Ca::Diff) => "ca diff",
            Command::Ca(Ca::Push { .. }) => "ca push",
            Command::Ca(Ca::Apply { .. }) => "ca apply",
            Command::Ca(Ca::Watch { .. }) => "ca watch",
            Command::Ca(Ca::Verify { .. }) => "ca verify",
            Command::Ca(Ca::Compare) => "ca compare",
            Command::Ca(Ca::Exclude) => "ca exclude",
            Command::Ca(Ca::Merge { .. }) => "ca merge",
            Command::Nc(Nc::Export { .. }) => "nc export",
            Command::Nc(Nc::Push { .. }) => "nc push",
            Command::Nc(Nc::Diff) => "nc diff",
            Command::Nc(Nc::Restore { .. }) => "nc restore",
            Command::Nc(Nc::Rollback { .. }) => "nc rollback",
            Command::Nc(Nc::Verify) => "nc verify",
            Command::Db(Db::Dump { .. }) => "db dump",
            Command::Db(Db::Push { .. }) => "db push",
            Command::Db(Db::Restore { .. }) => "db restore",
            Command::Db(Db::Rollback { .. }) => "db rollback",
            Command::Db(Db::Drill { .. }) => "db drill",
            Command::Db(Db::Verify { .. }) => "db verify",
            Command::Db(Db::List) => "db list",
            Command::Db(Db::Stage) => "db stage",
            Command::Db(Db::Tied { .. }) => "db tied",
            Command::Push { .. } => "push",
            Command::Apply { .. } => "apply",
            Command::Run { .. } => "run",
            Command::Verify { .. } => "verify",
            Command::Drill { .. } => "drill",
            Command::Promote { .. } => "promote",
            Command::Demote { .. } => "demote",
            Command::Switchover { .. } => "switchover",
            Command::Fence => "fence",
            Command::Pause { .. } => "pause",
            Command::Resume { .. } => "resume",
            Command::Status => "status",
            Command::Schedule(Schedule::Print { .. }) => "schedule print",
            Command::Schedule(Schedule::Install { .. }) => "schedule install",
            Command::Schedule(Schedule::Remove { .. }) => "schedule remove",
            Command::Receive => "receive",
        }
    }
}
