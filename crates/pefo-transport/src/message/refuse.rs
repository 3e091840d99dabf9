//! A receiver's no, on its way to the sender.

use pefo_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// The rule of a refusal that trying again, unchanged, can overcome: a part of a file did not fit what
/// the receiver had, and it will ask for the whole.
pub const RETRY_RULE: &str = "transfer-again";

/// The receiver says no; nothing follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    /// [`ErrorKind::name`].
    pub kind: String,
    /// The rule that said no, where one did.
    pub rule: Option<String>,
    /// What, where, why.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Refuse {
    /// The longest text that is taken from a peer, in characters.
    pub const MAX_TEXT: usize = 2000;

    /// Tells the peer of an error.
    pub fn of(error: &Error) -> Self {
        // Display appends the rule in brackets; it travels in a field of its own.
        let shown = error.to_string();
        let message = match error.rule() {
            Some(rule) => shown.strip_suffix(&format!(" [{rule}]")).unwrap_or(&shown),
            None => &shown,
        };
        Self {
            kind: error.kind().name().to_owned(),
            rule: error.rule().map(plain),
            message: plain(message),
            hint: error.hint_text().map(plain),
        }
    }

    /// The error that the peer told of, of the same kind and rule.
    pub fn into_error(self, peer: &str) -> Error {
        let message = format!("{peer}: {}", plain(&self.message));
        let kind = ErrorKind::from_name(&self.kind);
        let error = match (kind, self.rule) {
            (Some(ErrorKind::Refused) | None, rule) => {
                let again = rule.as_deref() == Some(RETRY_RULE);
                let rule = rule.map_or_else(|| "peer".to_owned(), |rule| plain(&rule));
                Error::refused(rule, message).retryable(again)
            }
            (Some(kind), _) => Error::new(kind, message),
        };
        match self.hint {
            Some(hint) => error.hint(plain(&hint)),
            None => error,
        }
    }
}

/// Text for people, from somebody else: no control characters, and not endless.
pub(crate) fn plain(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(Refuse::MAX_TEXT).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_kind_rule_and_hint_on_its_way() {
        for kind in ErrorKind::ALL {
            let error = match kind {
                ErrorKind::Refused => Error::refused("split-reign", "two holders"),
                kind => Error::new(kind, "two holders"),
            }
            .hint("decide");
            let told = Refuse::of(&error).into_error("b.lab");
            assert_eq!(told.kind(), kind);
            assert_eq!(told.rule(), error.rule());
            assert_eq!(told.hint_text(), Some("decide"));
            assert!(told.to_string().starts_with("b.lab: two holders"), "{told}");
        }
    }

    #[test]
    fn a_peers_text_cannot_drive_the_operators_terminal() {
        let refuse = Refuse {
            kind: "no-such-kind".into(),
            rule: None,
            message: format!("\x1b[2Jgone\r\n{}", "x".repeat(9000)),
            hint: Some("\x07".into()),
        };
        let error = refuse.into_error("b.lab");
        assert!(!error.to_string().chars().any(char::is_control));
        assert!(error.to_string().len() < 3000);
        assert_eq!(error.hint_text(), Some(" "));
        assert_eq!(error.rule(), Some("peer"));
    }

    #[test]
    fn only_a_refusal_that_says_so_is_worth_the_same_push_again() {
        for (rule, again) in [(RETRY_RULE, true), ("digest", false)] {
            let told = Refuse::of(&Error::refused(rule, "no")).into_error("b.lab");
            assert_eq!((told.rule(), told.is_retryable()), (Some(rule), again));
        }
    }
}
