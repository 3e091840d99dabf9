//! The one public error of every pefo crate.
//!
//! An [`Error`] is one pointer wide. It says what kind of failure it is ([`ErrorKind`], which the
//! command line maps to an exit code in one exhaustive match), which rule refused (a stable name an
//! operator may overrule by `--accept`), whether trying again can help, and what to do next (a hint
//! that only the command line prints). Messages are lower-case fragments that read well after
//! "failed to …:". Narrow `thiserror` enums inside the crates become its [`source`].
//!
//! [`source`]: std::error::Error::source

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

/// The result of everything fallible in pefo.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or directory could not be read or changed.
    Io,
    /// Something given to us is malformed: a file, a frame, a document, a response.
    Invalid,
    /// The configuration or the command line is wrong.
    Config,
    /// A gate said no; [`Error::rule`] names it.
    Refused,
    /// Some of the work was done; the rest is named in the message.
    Partial,
    /// Another run holds the lock.
    Locked,
    /// This host's reign has ended.
    Fenced,
    /// The command belongs to the other role.
    WrongRole,
    /// The peer, server or database could not be reached.
    Unreachable,
    /// The peer, server or database knows us and said no.
    Denied,
    /// The other side speaks, but not as agreed.
    Protocol,
    /// What was asked for does not exist.
    NotFound,
    /// A program we started failed.
    Child,
    /// Whether it happened cannot be told (a request that timed out after it was sent).
    Unknown,
    /// The operation was cancelled.
    Cancelled,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Io,
        Self::Invalid,
        Self::Config,
        Self::Refused,
        Self::Partial,
        Self::Locked,
        Self::Fenced,
        Self::WrongRole,
        Self::Unreachable,
        Self::Denied,
        Self::Protocol,
        Self::NotFound,
        Self::Child,
        Self::Unknown,
        Self::Cancelled,
    ];

    /// The kind of this name, for errors that crossed a process or the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The stable name used in `--json` (`errors[].kind`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Invalid => "invalid",
            Self::Config => "config",
            Self::Refused => "refused",
            Self::Partial => "partial",
            Self::Locked => "locked",
            Self::Fenced => "fenced",
            Self::WrongRole => "wrong_role",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::Protocol => "protocol",
            Self::NotFound => "not_found",
            Self::Child => "child",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An error with its kind, and as data: the rule that refused, a hint, and whether a retry can help.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    rule: Option<Cow<'static, str>>,
    hint: Option<Cow<'static, str>>,
    retryable: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` is a lower-case fragment without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let retryable = matches!(kind, ErrorKind::Unreachable | ErrorKind::Locked);
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            rule: None,
            hint: None,
            retryable,
            source: None,
        }))
    }

    /// A refusal by the gate `rule`, a stable kebab-case name such as `crl-rollback`.
    pub fn refused(
        rule: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut error = Self::new(ErrorKind::Refused, message);
        error.0.rule = Some(rule.into());
        error
    }

    /// Malformed input.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A failed operation on a file: `action` is a verb such as `open`.
    pub fn io(action: &str, path: &Path, source: std::io::Error) -> Self {
        Self::new(
            ErrorKind::Io,
            format!("{action} {}: {source}", path.display()),
        )
        .with_source(source)
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says what to do next; a sentence for people, printed by the command line only.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Puts `context` before the message: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message).into();
        self
    }

    /// Says that trying again, unchanged, can succeed.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without the rule.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The gate that refused, where one did.
    pub fn rule(&self) -> Option<&str> {
        self.0.rule.as_deref()
    }

    /// What to do next, where something useful can be said.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Whether trying again, unchanged, can succeed.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Whether a gate said no.
    pub fn is_refusal(&self) -> bool {
        self.0.kind == ErrorKind::Refused
    }

    /// The operating system's error at the bottom of the chain, where there is one.
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        let source = self.0.source.as_deref()?;
        source
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.rule {
            Some(rule) => write!(f, "{} [{rule}]", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("rule", &self.0.rule)
            .field("hint", &self.0.hint)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn a_refusal_names_its_rule_and_keeps_the_hint_apart() {
        let error = Error::refused("crl-rollback", "CRL number 3 is older than 5")
            .hint("keep the newer one");
        assert_eq!(
            error.to_string(),
            "CRL number 3 is older than 5 [crl-rollback]"
        );
        assert_eq!(error.hint_text(), Some("keep the newer one"));
        assert!(error.is_refusal() && !error.is_retryable());
    }

    #[test]
    fn an_io_error_names_the_file() {
        let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::io("open", Path::new("/x/serial"), cause);
        assert!(error.to_string().starts_with("open /x/serial: "));
        assert_eq!(error.io_kind(), Some(std::io::ErrorKind::NotFound));
    }
}
