//! Man pages, completions and the reference are what the program says of itself.

use std::path::Path;
use std::process::{Command, Output};

use pefo_documentation::{man, reference};
use pefo_testkit::masters::built_binary;
use pefo_testkit::skip;

use crate::markdown::page;

pub(crate) fn pages(what: &str, into: &Path) {
    let done = Command::new(env!("CARGO_BIN_EXE_pages"))
        .arg(what)
        .arg(into)
        .status();
    assert!(done.unwrap().success());
}

/// Runs a program with nothing of this process's environment but the path.
pub(crate) fn run(command: &mut Command) -> Output {
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap()
}

#[test]
fn the_reference_is_what_the_program_says_of_itself() {
    assert!(
        page("commands.md") == reference::page(),
        "docs/commands.md is not what the program has: run 'make reference'"
    );
    for (line, help) in reference::helps() {
        let words = line.split(' ').skip(1);
        let said = run(Command::new(built_binary()).args(words).arg("--help"));
        assert_eq!(
            String::from_utf8(said.stdout).unwrap().trim_end(),
            help.trim_end(),
            "{line} --help"
        );
    }
}

#[test]
fn man_formats_every_page_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    pages("man", dir.path());
    let found = Path::new("/usr/bin/man").exists() && Path::new("/usr/bin/groff").exists();
    if !skip::unless(
        found,
        "needs-man",
        "the packages man-db and groff are not installed",
    ) {
        return;
    }
    let pages = man::pages().unwrap();
    assert!(pages.len() > 40, "{} pages", pages.len());
    for page in pages {
        let file = dir.path().join(&page.name);
        let done = run(Command::new("man")
            .args(["--warnings", "--encoding=UTF-8", "--local-file", "-Tutf8"])
            .arg(&file));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            done.status.success() && said.is_empty(),
            "{}: {said}",
            page.name
        );
        let shown = without_overstrikes(&String::from_utf8_lossy(&done.stdout));
        assert!(
            shown.contains("NAME") && shown.contains("SEE"),
            "{}: {shown}",
            page.name
        );
    }
}

/// What a terminal shows of text in which letters are struck twice to be bold.
fn without_overstrikes(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        match letter {
            '\u{8}' => drop(shown.pop()),
            letter => shown.push(letter),
        }
    }
    shown
}

#[test]
fn the_configurations_page_names_every_key_of_the_example() {
    let pages = man::pages().unwrap();
    let page = pages
        .iter()
        .find(|page| page.name == "pefo.toml.5")
        .unwrap();
    for line in pefo_cli::config::EXAMPLE.lines() {
        let line = line.trim_start_matches("# ");
        let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) else {
            continue;
        };
        assert!(
            page.text.contains(&format!("{key} = ")),
            "{key} is not in pefo.toml.5"
        );
    }
}

#[test]
fn completions_load_and_offer_commands_and_nothing_hidden() {
    let dir = tempfile::tempdir().unwrap();
    pages("completions", dir.path());
    let bash = dir.path().join("pefo.bash").display().to_string();
    let script = format!(
        "source {bash} && complete -p pefo && COMP_WORDS=(pefo db '') COMP_CWORD=2 && _pefo pefo '' db && echo \"${{COMPREPLY[*]}}\""
    );
    let done = run(Command::new("bash").args(["--norc", "-c", &script]));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(said.contains("-F _pefo"), "{said}");
    let offered: Vec<&str> = said.lines().last().unwrap().split(' ').collect();
    assert!(
        offered.contains(&"restore") && offered.contains(&"--json"),
        "{said}"
    );
    assert!(
        !offered.contains(&"stage") && !offered.contains(&"tied"),
        "{said}"
    );
    for (shell, file) in [("zsh", "_pefo"), ("fish", "pefo.fish")] {
        let text = std::fs::read_to_string(dir.path().join(file)).unwrap();
        assert!(
            text.contains("switchover") && !text.contains("tied"),
            "{shell}"
        );
        if Path::new("/usr/bin").join(shell).exists() {
            let done = run(Command::new(shell)
                .arg("--no-execute")
                .arg(dir.path().join(file)));
            assert!(
                done.status.success(),
                "{shell}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
    }
}
