//! Man pages: one for each command, by clap's own generator, with examples and exit codes; and one for the
//! configuration, from the commented example.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::{commands, examples};

/// A page and its file's name.
#[derive(Debug, Clone)]
pub struct Page {
    /// `pefo-ca-push.1`.
    pub name: String,
    /// Its text, in roff.
    pub text: String,
}

/// Every page.
///
/// # Errors
/// Where one cannot be written, which memory always can.
pub fn pages() -> io::Result<Vec<Page>> {
    let root = commands::root();
    let mut pages = commands::every(&root)
        .iter()
        .map(page)
        .collect::<io::Result<Vec<_>>>()?;
    pages.push(configuration());
    Ok(pages)
}

fn page(command: &Command) -> io::Result<Page> {
    let name = commands::line(command).replace(' ', "-");
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section("1")
        .date("")
        .source(concat!("pefo ", env!("CARGO_PKG_VERSION")))
        .manual("pefo");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    more(command).to_writer(&mut text)?;
    Ok(Page {
        name: format!("{name}.1"),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// What clap does not know.
fn more(command: &Command) -> Roff {
    let line = commands::line(command);
    let mut roff = Roff::new();
    let examples = examples::of(&line);
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        for (called, does) in examples {
            roff.control("TP", []);
            roff.text([bold(*called)]);
            roff.text([roman(*does)]);
        }
    }
    roff.control("SH", ["EXIT STATUS"]);
    let is_plugin = ["check", "status", "verify"]
        .iter()
        .any(|word| line.ends_with(word));
    let codes: Vec<(u8, &str)> = if is_plugin && line != "pefo config check" {
        commands::plugin_codes().to_vec()
    } else {
        commands::exit_codes().to_vec()
    };
    for (code, meaning) in codes {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(meaning)]);
    }
    roff.control("SH", ["FILES"]);
    for (path, what) in [
        (
            "/etc/pefo/pefo.toml",
            "The configuration, see pefo.toml(5).",
        ),
        (
            "/var/lib/pefo",
            "Keys, reign, what was accepted, records of runs; root's own.",
        ),
        (
            "/opt/pe_failover",
            "The spool: what the peer's transfer account may write.",
        ),
    ] {
        roff.control("TP", []);
        roff.text([italic(path)]);
        roff.text([roman(what)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([
        bold("pefo"),
        roman("(1), "),
        bold("pefo.toml"),
        roman("(5), /usr/share/doc/pefo/docs"),
    ]);
    roff
}

/// `pefo.toml.5`: each section of the example, each key with its default and what is said of it.
fn configuration() -> Page {
    let mut roff = Roff::new();
    let source = concat!("pefo ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["PEFO.TOML", "5", "", source, "pefo"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("pefo.toml - configuration of pefo(1)")]);
    roff.control("SH", ["DESCRIPTION"]);
    for entry in entries(pefo_cli::config::EXAMPLE) {
        match entry {
            Entry::Text(text) => {
                roff.control("PP", []);
                roff.text([roman(text)]);
            }
            Entry::Section(name) => {
                roff.control("SH", [name.as_str()]);
            }
            Entry::Keys(keys, text) => {
                for (index, key) in keys.into_iter().enumerate() {
                    roff.control(if index == 0 { "TP" } else { "TQ" }, []);
                    roff.text([bold(key)]);
                }
                roff.text([roman(text)]);
            }
        }
    }
    roff.control("SH", ["FILES"]);
    roff.control("TP", []);
    roff.text([italic("/etc/pefo/pefo.toml")]);
    roff.text([roman("Where it is read, unless --config names another.")]);
    roff.control("TP", []);
    roff.text([italic("/usr/share/doc/pefo/examples/pefo.toml")]);
    roff.text([roman(
        "This, as a commented example; 'pefo config example' prints it too.",
    )]);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([
        bold("pefo"),
        roman("(1), "),
        bold("pefo-config"),
        roman("(1)"),
    ]);
    Page {
        name: "pefo.toml.5".to_owned(),
        text: roff.render(),
    }
}

/// A part of the example.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// What is said of no key.
    Text(String),
    /// `[site]`.
    Section(String),
    /// Keys, as lines with their defaults, and what is said of them.
    Keys(Vec<String>, String),
}

/// Reads the example: comments that say something, keys that may be commented out, sections likewise.
fn entries(example: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let (mut said, mut keys) = (Vec::new(), Vec::new());
    for line in example.lines().chain([""]) {
        let plain = line.strip_prefix("# ").unwrap_or(line);
        let is_section = plain.starts_with('[') && plain.ends_with(']');
        let is_key = plain.split_once(" = ").is_some_and(|(name, _)| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        });
        if is_key {
            keys.push(plain.to_owned());
            continue;
        }
        // Keys were the end of what was said of them.
        if !keys.is_empty() {
            entries.push(Entry::Keys(
                std::mem::take(&mut keys),
                std::mem::take(&mut said).join(" "),
            ));
        }
        if is_section {
            // What stands right above a section is about it.
            entries.push(Entry::Section(plain.to_owned()));
        }
        if is_section || line.is_empty() {
            let text = std::mem::take(&mut said).join(" ");
            if !text.is_empty() {
                entries.push(Entry::Text(text));
            }
        } else {
            said.push(plain.to_owned());
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_reads_as_sections_keys_and_what_is_said_of_them() {
        let example = "# Of all.\n\n[site]\n# Who.\n# And where.\nname = \"a\"\n# One.\n# x = 1\n# y = 2\n\n# More.\n# [other]\n# z = []\n";
        let keys = |keys: &[&str], text: &str| {
            Entry::Keys(
                keys.iter().map(|key| (*key).to_owned()).collect(),
                text.to_owned(),
            )
        };
        assert_eq!(
            entries(example),
            [
                Entry::Text("Of all.".to_owned()),
                Entry::Section("[site]".to_owned()),
                keys(&["name = \"a\""], "Who. And where."),
                keys(&["x = 1", "y = 2"], "One."),
                Entry::Section("[other]".to_owned()),
                Entry::Text("More.".to_owned()),
                keys(&["z = []"], ""),
            ]
        );
    }
}
