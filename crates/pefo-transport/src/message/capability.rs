//! What two peers can do beyond the protocol's base: words in `capabilities` of both greetings.

use crate::frame::compression;

/// What is agreed. Nothing of it is used before both sides have named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// `ask`: the receiver asks for parts of files and for deltas; a transfer can be taken up again
    /// or abandoned.
    pub ask: bool,
    /// `zstd`: Data frames may be compressed.
    pub zstd: bool,
    /// `ping`: an idle session can be asked for a sign of life.
    pub ping: bool,
    /// `request`: signed requests to the receiver's root, its answers, and notices of reigns.
    pub request: bool,
    /// A tree session's own frames; not a word of a greeting but another way to begin.
    pub tree: bool,
}

impl Capabilities {
    /// The protocol's base alone.
    pub const NONE: Self = Self {
        ask: false,
        zstd: false,
        ping: false,
        request: false,
        tree: false,
    };

    /// What this build can do in a session of generations.
    pub const OURS: Self = Self {
        ask: true,
        zstd: compression::AVAILABLE,
        ping: true,
        request: true,
        tree: false,
    };

    /// The same in a session about a tree.
    pub const TREE: Self = Self {
        request: false,
        tree: true,
        ..Self::OURS
    };

    /// Without what is not to be compressed.
    #[must_use]
    pub const fn with_zstd(self, wanted: bool) -> Self {
        Self {
            zstd: self.zstd && wanted,
            ..self
        }
    }

    fn named(self) -> [(&'static str, bool); 4] {
        [
            ("ask", self.ask),
            ("zstd", self.zstd),
            ("ping", self.ping),
            ("request", self.request),
        ]
    }

    /// The words for a greeting.
    pub fn words(self) -> Vec<String> {
        self.named()
            .into_iter()
            .filter(|(_, can)| *can)
            .map(|(word, _)| word.to_owned())
            .collect()
    }

    /// What both can do, where the other side said `words`; words this version does not know are
    /// passed over.
    #[must_use]
    pub fn agree(self, words: &[String]) -> Self {
        let both = |word: &str, ours: bool| ours && words.iter().any(|theirs| theirs == word);
        Self {
            ask: both("ask", self.ask),
            zstd: both("zstd", self.zstd),
            ping: both("ping", self.ping),
            request: both("request", self.request),
            tree: self.tree,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_both_name_is_agreed() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        let ours = Capabilities::OURS;
        assert_eq!(ours.agree(&ours.words()), ours);
        assert_eq!(ours.agree(&[]), Capabilities::NONE);
        let some = ours.agree(&words(&["ping", "teleport"]));
        assert_eq!(some.words(), ["ping"]);
        assert!(!ours.with_zstd(false).agree(&ours.words()).zstd);
        assert!(Capabilities::TREE.agree(&[]).tree);
    }
}
