//! What `puppet-code deploy --wait` says: lines for people, then a JSON array with an object for each
//! environment (Puppet Enterprise's "Code Manager API", `POST /v1/deploys`).
//!
//! `status` is `complete` once file sync has brought the code to the live directory, with the commit as
//! `deploy-signature`; `failed`, with `error.msg`; or one that `--wait` should have waited for. Its exit code is
//! not documented: the array counts.

use pefo_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use super::{EnvironmentName, Label};

/// What became of one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Deployed, at this commit where one is told.
    Complete(Option<Label>),
    /// Not deployed, and why.
    Failed(String),
}

#[derive(Debug, Deserialize)]
struct Item {
    environment: String,
    status: String,
    #[serde(default, rename = "deploy-signature")]
    signature: Option<String>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    msg: Option<String>,
}

/// Reads an answer: what became of each environment that it names.
///
/// # Errors
/// `Protocol` where it holds no such array.
pub fn parse(stdout: &str) -> Result<Vec<(EnvironmentName, Said)>> {
    let items = array(stdout).ok_or_else(|| {
        let said = one_line(stdout);
        let said = if said.is_empty() { "nothing" } else { &said };
        Error::new(ErrorKind::Protocol, format!("Code Manager's command says what is no answer to a deployment: {said}"))
            .hint("run it by hand: is that puppet-code, with a token that has not expired, and Code Manager enabled?")
    })?;
    items.into_iter().map(read).collect()
}

/// The first array of items that begins a line; what stands after it is for people again.
fn array(stdout: &str) -> Option<Vec<Item>> {
    let starts = stdout
        .match_indices('[')
        .map(|(at, _)| at)
        .filter(|at| stdout[..*at].ends_with('\n') || stdout[..*at].trim().is_empty());
    starts.into_iter().find_map(|at| {
        let mut values = serde_json::Deserializer::from_str(&stdout[at..]).into_iter();
        values.next()?.ok()
    })
}

fn read(item: Item) -> Result<(EnvironmentName, Said)> {
    // Of a branch whose name is no environment's, the branch is told; r10k replaces what does not fit.
    let corrected: String = item
        .environment
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let name = EnvironmentName::new(corrected)
        .map_err(|error| error.context("Code Manager's command answers"))?;
    let said = match item.status.as_str() {
        "complete" => Said::Complete(item.signature.and_then(|text| Label::new(text).ok())),
        "failed" => {
            let error = item.error;
            let why = error.and_then(|error| error.msg.or(error.kind));
            Said::Failed(one_line(
                &why.unwrap_or_else(|| "no reason is told".to_owned()),
            ))
        }
        status => Said::Failed(format!("it is {:?} still", one_line(status))),
    };
    Ok((name, said))
}

/// What a program said, on one line, not too long and without control characters.
pub(super) fn one_line(text: &str) -> String {
    const SHOWN: usize = 300;
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> EnvironmentName {
        EnvironmentName::new(text).unwrap()
    }

    #[test]
    fn each_environment_is_told_with_its_commit_or_why_it_has_none() {
        let commit = "482f8d3adc76b5197306c5d4c8aa32aa8315694b";
        let stdout = format!(
            r#"Deploying all environments.
Found 3 environments.
[
  {{"deploy-signature": "{commit}", "file-sync": {{"environment-commit": "6939", "code-commit": "ce5f"}},
    "environment": "production", "id": 3, "status": "complete"}},
  {{"environment": "feature/one", "id": 4, "status": "failed",
    "error": {{"kind": "puppetlabs.code-manager/deploy-failure", "details": {{"corrected-name": "feature_one"}},
    "msg": "Errors while deploying environment\n'feature_one'"}}}},
  {{"environment": "test", "id": 5, "status": "queued"}}
]
"#
        );
        assert_eq!(
            parse(&stdout).unwrap(),
            [
                (
                    name("production"),
                    Said::Complete(Some(Label::new(commit).unwrap()))
                ),
                (
                    name("feature_one"),
                    Said::Failed("Errors while deploying environment 'feature_one'".into())
                ),
                (name("test"), Said::Failed("it is \"queued\" still".into())),
            ]
        );
    }

    #[test]
    fn what_is_no_answer_is_shown_on_one_line() {
        for (stdout, shown) in [
            ("", "nothing"),
            (
                "<html>\n\u{1b}[31mBad Gateway</html>",
                "<html> [31mBad Gateway</html>",
            ),
            ("[1, 2]", "[1, 2]"),
            ("Found.\n[{\"environment\": \"x\"}]", "Found."),
        ] {
            let error = parse(stdout).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains(shown), "{error}");
        }
        assert_eq!(parse("[]").unwrap(), []);
    }

    proptest! {
        #[test]
        fn no_answer_puts_more_than_a_line_into_a_message(text in "\\PC{0,40}", status in "complete|failed|\\PC{0,9}") {
            let items = serde_json::json!([{ "environment": text, "status": status, "error": { "msg": text } }]);
            for stdout in [text.clone(), format!("{text}\n{items}")] {
                match parse(&stdout) {
                    Ok(all) => for (_, said) in all {
                        if let Said::Failed(why) = said {
                            prop_assert!(why.lines().count() <= 1);
                        }
                    },
                    Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
                }
            }
        }
    }
}
