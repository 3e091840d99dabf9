//! Strict reading: keys nobody knows are errors, with the nearest known key named.

use std::collections::BTreeSet;

use pefo_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;

use super::EXAMPLE;

/// Parses `text`; every key that is not used is an error.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    let at_line = |error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let message = error.message().replace('\n', " ");
        Error::new(ErrorKind::Config, format!("line {line}: {message}"))
    };
    let mut unknown = Vec::new();
    let deserializer = toml::Deserializer::parse(text).map_err(at_line)?;
    let value = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()))
        .map_err(at_line)?;
    match unknown.first() {
        None => Ok(value),
        Some(key) => Err(unknown_key(text, &plain(key))),
    }
}

/// serde_ignored writes options as `?` and array items by number: `classifier.?.map`, `peer.0.host`.
fn plain(key: &str) -> String {
    let parts = key
        .split('.')
        .filter(|part| *part != "?" && part.parse::<usize>().is_err());
    parts.collect::<Vec<_>>().join(".")
}

fn unknown_key(text: &str, key: &str) -> Error {
    let name = key.rsplit('.').next().unwrap_or(key);
    let section = key.rsplit_once('.').map(|(section, _)| section);
    let error = Error::new(
        ErrorKind::Config,
        format!("line {}: unknown key {key}", find_line(text, section, name)),
    );
    let nearest = known_keys()
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&known, key), known))
        .min();
    match nearest {
        Some((distance, known)) if distance <= 1 + key.len() / 4 => {
            error.hint(format!("did you mean {known}?"))
        }
        _ => error.hint("'pefo config example' shows every key"),
    }
}

/// Every key that the commented example names.
fn known_keys() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut section = String::new();
    for line in EXAMPLE.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']).to_owned();
            keys.insert(section.clone());
        } else if let Some((key, value)) = line.split_once(" = ")
            && is_key(key)
        {
            keys.insert(format!("{section}.{key}"));
            let inner = value.trim_matches(['{', '}', ' ']).split(", ");
            let inner = inner.filter_map(|pair| pair.split_once(" = "));
            keys.extend(
                inner
                    .filter(|(inner, _)| is_key(inner))
                    .map(|(inner, _)| format!("{section}.{key}.{inner}")),
            );
        }
    }
    keys
}

fn is_key(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

fn find_line(text: &str, section: Option<&str>, name: &str) -> usize {
    let mut current = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            current = line.trim_matches(['[', ']']).to_owned();
            if section.is_none() && current == name {
                return number + 1;
            }
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        if key == name && section.is_none_or(|section| section == current) {
            return number + 1;
        }
        // Within a table of one line.
        if section.is_some_and(|section| section == format!("{current}.{key}")) {
            return number + 1;
        }
    }
    1
}
