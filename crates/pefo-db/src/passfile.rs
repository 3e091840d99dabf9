//! libpq's password file, read for our own connections as libpq reads it for `pg_dump`'s, so that a
//! password stands in one file and never on a command line.
//!
//! Format: <https://www.postgresql.org/docs/current/libpq-pgpass.html>: lines of
//! `host:port:database:user:password`, `*` for anything, `\` before a colon or a backslash; `#`
//! starts a comment line. For a unix socket in the default directory libpq matches `localhost`; for
//! any other directory it matches the directory, and so do we for all.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use pefo_core::disk::read_capped;
use pefo_core::{Error, ErrorKind, Result};

const MAX_BYTES: u64 = 1 << 20;

/// The password in `path` for this connection, where a line matches.
///
/// # Errors
/// `Io` where it cannot be read; `Config` where others than its owner may read it (libpq would ignore
/// it in silence).
pub(crate) fn password(
    path: &Path,
    host: &str,
    port: u16,
    database: &str,
    user: &str,
) -> Result<Option<String>> {
    let meta = std::fs::metadata(path).map_err(|error| Error::io("examine", path, error))?;
    if meta.permissions().mode() & 0o077 != 0 {
        let message = format!(
            "password file {} may be read by others than its owner",
            path.display()
        );
        return Err(Error::new(ErrorKind::Config, message)
            .hint(format!("run chmod 0600 {}", path.display())));
    }
    let bytes = read_capped(path, MAX_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::invalid(format!("password file {} is not UTF-8", path.display())).with_source(error)
    })?;
    let port = port.to_string();
    Ok(text
        .lines()
        .find_map(|line| matching(line, [host, &port, database, user])))
}

fn matching(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = Fields { rest: line };
    for wanted in wanted {
        let (raw, value) = fields.next_field()?;
        if raw != "*" && value != wanted {
            return None;
        }
    }
    // The password goes to the end of the line; colons in it need no backslash.
    Some(unescape(fields.rest))
}

struct Fields<'a> {
    rest: &'a str,
}

impl<'a> Fields<'a> {
    fn next_field(&mut self) -> Option<(&'a str, String)> {
        let mut escaped = false;
        let end = self.rest.char_indices().find_map(|(at, char)| {
            let is_end = char == ':' && !escaped;
            escaped = char == '\\' && !escaped;
            is_end.then_some(at)
        })?;
        let raw = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some((raw, unescape(raw)))
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.push(if char == '\\' {
            chars.next().unwrap_or('\\')
        } else {
            char
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_matching_line_wins() {
        let wanted = ["db.lab", "5432", "pe-rbac", "pe"];
        assert_eq!(
            matching("db.lab:5432:pe-rbac:pe:secret", wanted).as_deref(),
            Some("secret")
        );
        assert_eq!(
            matching("*:*:*:pe:a:b\\\\c", wanted).as_deref(),
            Some("a:b\\c")
        );
        assert_eq!(matching("#*:*:*:*:x", wanted), None);
        assert_eq!(matching("db.lab:5433:pe-rbac:pe:x", wanted), None);
        assert_eq!(matching("db.lab:5432:pe-rbac", wanted), None);
    }

    #[test]
    fn a_password_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        let attributes = pefo_core::disk::Attributes::mode(0o644);
        pefo_core::disk::Disk::new()
            .publish(&path, b"*:*:*:*:x", &attributes)
            .unwrap();
        let error = password(&path, "h", 1, "d", "u").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!error.to_string().contains('*'));
    }

    proptest! {
        #[test]
        fn any_escaped_line_is_matched_and_its_password_read_back(
            fields in prop::array::uniform5("[^\0\r\n]{1,12}"), noise in ".{0,40}"
        ) {
            prop_assume!(!fields[0].starts_with('#'));
            let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
            let line = fields.iter().map(|field| escape(field)).collect::<Vec<_>>().join(":");
            let wanted = [&*fields[0], &*fields[1], &*fields[2], &*fields[3]];
            prop_assert_eq!(matching(&line, wanted), Some(fields[4].clone()));
            matching(&noise, wanted);
        }
    }
}
