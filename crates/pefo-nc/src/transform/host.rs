//! Hosts in values: the whole value, or the host of `host:port` or `scheme://host[:port][/path]`;
//! and mentions of hosts in everything else.

use pefo_core::Certname;

use super::{CertnameMap, Mention};

/// The value with its host replaced, where it holds a mapped host in one of the known shapes.
pub(crate) fn rewrite(value: &str, map: &CertnameMap) -> Option<String> {
    if let Some(to) = map.host(value) {
        return Some(to.to_string());
    }
    let (before, host, after) = parts(value)?;
    map.host(host).map(|to| format!("{before}{to}{after}"))
}

/// Splits `[scheme://]host[:port][/path]` around its host; a plain host is not split.
fn parts(value: &str) -> Option<(&str, &str, &str)> {
    let start = match value.find("://") {
        Some(end) if is_scheme(&value[..end]) => end + 3,
        Some(_) => return None,
        None => 0,
    };
    let rest = &value[start..];
    let host_end = rest.find([':', '/']).unwrap_or(rest.len());
    let after = &rest[host_end..];
    let behind_port = match after.strip_prefix(':') {
        Some(port) => {
            let digits = port.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=5).contains(&digits) {
                return None;
            }
            &port[digits..]
        }
        None => after,
    };
    // Without a scheme, a path is somebody's directory rather than a URL's.
    let fits = if start == 0 {
        behind_port.is_empty() && !after.is_empty()
    } else {
        behind_port.is_empty() || behind_port.starts_with('/')
    };
    fits.then(|| (&value[..start], &rest[..host_end], after))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// The first mapped host that `text` mentions, and how; the clearest mention where there are several.
pub(crate) fn mention<'m>(text: &str, map: &'m CertnameMap) -> Option<(&'m Certname, Mention)> {
    if !may_mention(text, map) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let mut found: Option<(&Certname, Mention)> = None;
    for host in map.hosts() {
        let Some(how) = how(&lower, host.as_str(), map) else {
            continue;
        };
        if found.is_none_or(|(_, best)| how > best) {
            found = Some((host, how));
        }
    }
    found
}

fn how(lower: &str, host: &str, map: &CertnameMap) -> Option<Mention> {
    let mut best = None;
    for (at, _) in lower.match_indices(host) {
        let (before, after) = (&lower[..at], &lower[at + host.len()..]);
        let in_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let longer_before = before
            .chars()
            .next_back()
            .is_some_and(|c| in_name(c) || c == '.');
        // A full stop behind a host ends a sentence, unless a name goes on behind it.
        let longer_after = after.starts_with(in_name)
            || after
                .strip_prefix('.')
                .is_some_and(|rest| rest.starts_with(in_name));
        let mention = if longer_before || longer_after {
            Mention::LongerName
        } else {
            Mention::InsideText
        };
        best = best.max(Some(mention));
    }
    match best {
        Some(Mention::InsideText) if rewrite(lower, map).is_some() => Some(Mention::UnlistedPlace),
        other => other,
    }
}

/// Whether a text, or a group's whole JSON, may mention a mapped host: false only where it does not. A name's
/// first letters and digits are what no regular expression and no JSON escapes.
pub(crate) fn may_mention(text: &str, map: &CertnameMap) -> bool {
    map.hosts().any(|host| {
        let host = host.as_str().as_bytes();
        let end = host.iter().position(|byte| !byte.is_ascii_alphanumeric());
        contains(text.as_bytes(), &host[..end.unwrap_or(host.len())])
    })
}

/// Whether `part` is in `text`, in any letter case.
fn contains(text: &[u8], part: &[u8]) -> bool {
    part.first().is_none_or(|first| {
        text.iter().enumerate().any(|(at, byte)| {
            byte.eq_ignore_ascii_case(first)
                && text[at..]
                    .get(..part.len())
                    .is_some_and(|found| found.eq_ignore_ascii_case(part))
        })
    })
}

/// The mapped host that a regular expression mentions, plainly or with its dots and hyphens escaped.
pub(crate) fn mention_in_regex<'m>(regex: &str, map: &'m CertnameMap) -> Option<&'m Certname> {
    let plain = regex
        .replace("\\.", ".")
        .replace("\\-", "-")
        .replace("[.]", ".");
    mention(&plain, map).map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_mentioned_may_be_mentioned(text in testing::text(), escaped: bool) {
            let host = |text: &str| Certname::new(text).unwrap();
            let map = CertnameMap::new([
                (host("mastera.example.com"), host("masterb.example.com")),
                (host("masterb.example.com"), host("mastera.example.com")),
            ]).unwrap();
            let text = if escaped { text.replace('.', "\\.").to_uppercase() } else { text };
            let mentioned = mention(&text, &map).is_some() || mention_in_regex(&text, &map).is_some();
            let json = serde_json::to_string(&[text]).unwrap();
            prop_assert!(may_mention(&json, &map) || !mentioned, "{json}");
        }
    }

    #[test]
    fn a_longer_name_is_told_from_a_mention() {
        let host = |text: &str| Certname::new(text).unwrap();
        let map = CertnameMap::one(host("mastera.example.com"), host("masterb.example.com"));
        for (text, expected) in [
            ("mastera.example.community", Some(Mention::LongerName)),
            ("mastera.example.com-old", Some(Mention::LongerName)),
            ("mastera.example.com.lab", Some(Mention::LongerName)),
            ("old-mastera.example.com", Some(Mention::LongerName)),
            ("www.mastera.example.com", Some(Mention::LongerName)),
            ("on Mastera.Example.com.", Some(Mention::InsideText)),
            (
                "mastera.example.community or mastera.example.com",
                Some(Mention::InsideText),
            ),
            (
                "puppet://mastera.example.com/x",
                Some(Mention::UnlistedPlace),
            ),
            ("MASTERA.example.com", Some(Mention::UnlistedPlace)),
            ("mastera-example.com", None),
            ("compiler1.example.com", None),
        ] {
            assert_eq!(mention(text, &map).map(|(_, how)| how), expected, "{text}");
        }
    }
}
