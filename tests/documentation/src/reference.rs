//! `docs/commands.md`: the help of every command, and what the exit codes mean.

use crate::commands;

/// The page.
pub fn page() -> String {
    let mut text = String::from(
        "# Commands\n\nMade from the program's own help by `make reference`; a test holds it to that. `pefo COMMAND --help` says the same.\n\n\
         ## Exit codes\n\n| code | meaning |\n|---|---|\n",
    );
    for (code, meaning) in commands::exit_codes() {
        text.push_str(&format!("| {code} | {meaning} |\n"));
    }
    text.push_str("\n`check`, `status` and the commands named `verify` answer as monitoring plugins do:\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in commands::plugin_codes() {
        text.push_str(&format!("| {code} | {meaning} |\n"));
    }
    for (line, help) in helps() {
        text.push_str(&format!(
            "\n## {line}\n\n```text\n{}\n```\n",
            help.trim_end()
        ));
    }
    text
}

/// Every command and what its `--help` prints, where there is no terminal.
pub fn helps() -> Vec<(String, String)> {
    let every = commands::every(&commands::root());
    let help = |mut command: clap::Command| {
        let line = commands::line(&command);
        (line, command.render_long_help().to_string())
    };
    every.into_iter().map(help).collect()
}
