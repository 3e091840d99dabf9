//! What people wrote in the documents, held to the program: exit codes, command lines, links.

use clap::Parser as _;
use pefo_cli::arguments::Arguments;
use pefo_documentation::{commands, examples};

use crate::markdown::{anchors, code, documents, links, prose, readme};

/// Words as a shell would split them; quotes of both kinds.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => (quote, begun) = (Some(letter), true),
            (None, letter) if letter.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (_, letter) => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// The call of pefo on a line of a code block, without the prompt and what comes after it.
fn call(line: &str) -> Option<Vec<String>> {
    // `active#   pefo push`, `# pefo push`, `$ pefo push`, or the bare command.
    let bare = match line.split_once(['#', '$']) {
        Some((prompt, rest)) if !prompt.contains(' ') => rest.trim_start(),
        _ => line,
    };
    let words = words(bare);
    let ends = ["&&", "|", ">", ";", "#", "<", "||", "&"];
    let call: Vec<String> = words
        .into_iter()
        .take_while(|word| !ends.contains(&word.as_str()))
        .collect();
    (call.first()? == "pefo" && call.len() > 1).then_some(call)
}

/// Whether the line shows how a command is written in general (`pefo push [DATASET…]`), not one call of it.
fn is_synopsis(call: &[String]) -> bool {
    call.iter()
        .any(|word| word.contains(['[', '|']) || word == "…")
}

#[track_caller]
fn parses(call: &[String]) -> Result<(), String> {
    match Arguments::try_parse_from(call) {
        Ok(_) => Ok(()),
        // `--help` and `--version` are errors of clap's that go to standard output.
        Err(error) if !error.use_stderr() => Ok(()),
        Err(error) => Err(format!("{}: {error}", call.join(" "))),
    }
}

#[test]
fn every_call_of_pefo_in_the_documents_is_one_that_the_program_takes() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for document in documents() {
        for call in code(&document.text).filter_map(call) {
            if is_synopsis(&call) {
                continue;
            }
            seen += 1;
            if let Err(error) = parses(&call) {
                wrong.push(format!("{}: {error}", document.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        seen > 20,
        "only {seen} calls were found: are they still written as code?"
    );
}

#[test]
fn every_example_of_the_man_pages_is_one_that_the_program_takes() {
    let root = commands::root();
    let known: Vec<String> = commands::every(&root).iter().map(commands::line).collect();
    for (command, lines) in examples::EXAMPLES {
        assert!(
            known.iter().any(|line| line == command),
            "there is no {command}"
        );
        for (line, does) in *lines {
            let call = words(line);
            parses(&call).unwrap();
            assert!(does.ends_with('.'), "{line}: {does:?} is no sentence");
        }
    }
}

#[test]
fn the_exit_codes_that_people_read_of_are_those_of_the_program() {
    let told = |codes: &[(u8, &str)]| -> Vec<String> {
        let one = |(code, meaning): &(u8, &str)| format!("{code} {meaning}");
        codes.iter().map(one).collect()
    };
    let readme = readme();
    let help = commands::root().render_long_help().to_string();
    for text in [readme.text, help] {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, text) = text.split_once("Exit codes: ").unwrap();
        for code in told(&commands::exit_codes()) {
            assert!(text.contains(&code), "{code:?} is not among: {text}");
        }
    }
}

#[test]
fn every_link_within_the_documents_leads_somewhere() {
    let mut dead = Vec::new();
    for document in documents() {
        for link in links(&document.text) {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = match link.split_once('#') {
                Some((file, anchor)) => (file, Some(anchor)),
                None => (link.as_str(), None),
            };
            let target = match file {
                "" => document.path.clone(),
                file => document.path.parent().unwrap().join(file),
            };
            let leads = match (std::fs::read_to_string(&target), anchor) {
                (Ok(text), Some(anchor)) => anchors(&text).iter().any(|known| known == anchor),
                (Ok(_), None) => true,
                (Err(_), _) => target.is_dir() && anchor.is_none(),
            };
            if !leads {
                dead.push(format!("{}: {link}", document.path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let documents = documents();
    let mut reached = vec![readme().path];
    let mut next = 0;
    while let Some(path) = reached.get(next).cloned() {
        next += 1;
        let Some(document) = documents.iter().find(|document| document.path == path) else {
            continue;
        };
        for link in links(&document.text) {
            let file = link.split('#').next().unwrap_or_default();
            let Ok(target) = path.parent().unwrap().join(file).canonicalize() else {
                continue;
            };
            if target.is_file() && !reached.contains(&target) {
                reached.push(target);
            }
        }
    }
    let lost: Vec<_> = documents
        .iter()
        .map(|document| &document.path)
        .filter(|path| !reached.contains(path))
        .collect();
    assert!(lost.is_empty(), "no link leads to {lost:?}");
}

#[test]
fn calls_are_told_from_what_stands_around_them() {
    let told = |line| call(line).map(|words| words.join("_"));
    assert_eq!(
        told("active#   pefo init active   # prints a line").unwrap(),
        "pefo_init_active"
    );
    assert_eq!(told("# pefo push").unwrap(), "pefo_push");
    assert_eq!(
        told("pefo ca apply && systemctl start x").unwrap(),
        "pefo_ca_apply"
    );
    assert_eq!(
        told("pefo pause --reason 'a b'").unwrap(),
        "pefo_pause_--reason_a b"
    );
    for other in [
        "make demo",
        "# a comment on pefo push",
        "cargo build -p pefo",
        "pefo",
        "echo pefo push",
    ] {
        assert_eq!(told(other), None, "{other}");
    }
    assert_eq!(prose("a\n\n    b\n").collect::<Vec<_>>(), ["a", ""]);
}
