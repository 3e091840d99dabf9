//! The schedule as a table for cron.

use std::path::PathBuf;

use pefo_core::Result;

use super::file::{CRON_DIR, File, HEADER, Place, line};
use super::{Entry, Plan};

/// `/etc/cron.d/pefo`: every command of both roles, and at boot the question who reigns.
///
/// # Errors
/// `Config` where a path cannot stand in it.
pub fn table(place: &Place<'_>, plan: &Plan) -> Result<File> {
    let program = format!(
        "{} --config {}",
        word(line(place.program)?),
        word(line(place.config_path)?)
    );
    let mut text = format!(
        "{HEADER}: 'pefo schedule install' replaces it, 'pefo schedule remove' removes it.\n\
         # Both roles' commands: each does nothing where it is the other role's.\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\n\
         # Who reigns, before anything is signed.\n@reboot root {program} --quiet fence\n"
    );
    for entry in plan.entries() {
        let Entry {
            role,
            command,
            what,
            time,
            ..
        } = entry;
        text.push_str(&format!(
            "# On the {role}: {what}.\n{} root {program} --quiet --scheduled {command}\n",
            time.cron()
        ));
    }
    Ok(File {
        path: PathBuf::from(CRON_DIR).join("pefo"),
        text,
    })
}

/// A word for the shell, of a line in which cron takes % for its end.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=".contains(c);
    let word = if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    };
    word.replace('%', r"\%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_or_cron_would_take_apart_is_quoted() {
        assert_eq!(word("/usr/bin/pefo"), "/usr/bin/pefo");
        assert_eq!(word("/srv/my pefo's"), r"'/srv/my pefo'\''s'");
        assert_eq!(word("/srv/100%"), r"'/srv/100\%'");
    }
}
