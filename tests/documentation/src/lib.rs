//! What documents pefo and is made from pefo itself: man pages, shell completions, and the reference of its
//! commands. The program stays small: it carries none of this.
//!
//! | module | what it is for |
//! |---|---|
//! | [`commands`] | every command of the command line that people use |
//! | [`examples`] | how each is called |
//! | [`man`] | `pefo.1`, a page for each command, and `pefo.toml.5` from the commented example |
//! | [`reference`](mod@reference) | `docs/commands.md` |
//!
//! The tests hold what people wrote to the program: each refusal, exit code, JSON key, link and command line.

pub mod commands;
pub mod examples;
pub mod man;
pub mod reference;
