//! `pages man DIR`, `pages completions DIR`, `pages reference FILE`: writes what documents pefo.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "writes files that are built, no data of pefo's"
)]

use std::path::Path;
use std::process::ExitCode;

use clap_complete::{Shell, generate_to};
use pefo_documentation::{commands, man, reference};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let written = match arguments.as_slice() {
        ["man", dir] => man_pages(Path::new(dir)),
        ["completions", dir] => completions(Path::new(dir)),
        ["reference", file] => std::fs::write(file, reference::page()),
        _ => {
            eprintln!("usage: pages man DIR | completions DIR | reference FILE");
            return ExitCode::from(2);
        }
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: {error}");
            ExitCode::FAILURE
        }
    }
}

fn man_pages(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for page in man::pages()? {
        std::fs::write(dir.join(page.name), page.text)?;
    }
    Ok(())
}

fn completions(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut command = commands::visible();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "pefo", dir)?;
    }
    Ok(())
}
