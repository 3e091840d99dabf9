//! As much of Markdown as the documents use: headings with their anchors, links, tables and code blocks.

use std::path::PathBuf;

use crate::repository;

/// One document.
pub(crate) struct Document {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// README.md and every page in docs/.
pub(crate) fn documents() -> Vec<Document> {
    let docs = std::fs::read_dir(repository().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let mut paths: Vec<PathBuf> = pages.chain([repository().join("README.md")]).collect();
    paths.sort();
    let read = |path: PathBuf| Document {
        text: std::fs::read_to_string(&path).unwrap(),
        path,
    };
    paths.into_iter().map(read).collect()
}

/// README.md.
pub(crate) fn readme() -> Document {
    let is_readme = |document: &Document| document.path.ends_with("README.md");
    documents().into_iter().find(is_readme).unwrap()
}

/// One page in docs/.
pub(crate) fn page(name: &str) -> String {
    std::fs::read_to_string(repository().join("docs").join(name)).unwrap()
}

/// A line, and whether it stands in a code block.
fn lines(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let (mut fenced, mut after_blank, mut indented) = (false, true, false);
    text.lines().map(move |line| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return (line, true);
        }
        // Four blanks begin a block after an empty line, and it goes on while they last.
        indented = !fenced && line.starts_with("    ") && (after_blank || indented);
        after_blank = line.trim().is_empty();
        (line, fenced || indented)
    })
}

/// The lines of code blocks, without their indentation.
pub(crate) fn code(text: &str) -> impl Iterator<Item = &str> {
    lines(text)
        .filter(|(_, is_code)| *is_code)
        .map(|(line, _)| line.trim())
}

/// The lines that are no code.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = &str> {
    lines(text)
        .filter(|(_, is_code)| !is_code)
        .map(|(line, _)| line)
}

/// What a heading is linked by: lower case, blanks as dashes, punctuation gone; a second one of a name is
/// numbered.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for line in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let letters = title.trim().chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
            _ => None,
        });
        let anchor: String = letters.collect();
        let before = anchors.iter().filter(|known| **known == anchor).count();
        anchors.push(match before {
            0 => anchor,
            more => format!("{anchor}-{more}"),
        });
    }
    anchors
}

/// Targets of `[text](target)`.
pub(crate) fn links(text: &str) -> Vec<String> {
    let all: String = prose(text).flat_map(|line| [line, "\n"]).collect();
    let mut found = Vec::new();
    for part in all.split("](").skip(1) {
        let target = part.split(')').next().unwrap_or_default();
        found.push(target.to_owned());
    }
    found
}

/// The rows of every table whose first heading is `first`: its cells, and under which heading it stands.
pub(crate) fn rows(text: &str, first: &str) -> Vec<(String, Vec<String>)> {
    let (mut heading, mut inside, mut rows) = (String::new(), false, Vec::new());
    for line in prose(text) {
        if let Some(title) = line
            .strip_prefix("## ")
            .or_else(|| line.strip_prefix("### "))
        {
            title.trim().clone_into(&mut heading);
        }
        let cells = line
            .strip_prefix('|')
            .and_then(|line| line.strip_suffix('|'));
        let Some(cells) = cells else {
            inside = false;
            continue;
        };
        // A bar in code is written `\|`.
        let cells: Vec<String> = cells
            .replace("\\|", "\u{1}")
            .split('|')
            .map(|cell| cell.trim().replace('\u{1}', "|"))
            .collect();
        if cells
            .iter()
            .all(|cell| cell.trim_matches(['-', ':']).is_empty())
        {
            continue;
        }
        if inside {
            rows.push((heading.clone(), cells));
        } else {
            inside = cells.first().is_some_and(|cell| cell == first);
        }
    }
    rows
}

/// A cell that is code, without its marks.
pub(crate) fn plain(cell: &str) -> &str {
    cell.trim_matches('`')
}

#[test]
fn what_is_used_of_markdown_is_read_as_it_is_shown() {
    let text = "# A `b`: c-d\n\n## X\n\n## X\n\nsee [it](x.md#y),\nand\n\n    $ code\n    more\n\n```sh\n# no heading\n```\n\n| rule | b |\n|---|---|\n| `r` | x \\| y |\n";
    assert_eq!(anchors(text), ["a-b-c-d", "x", "x-1"]);
    assert_eq!(links(text), ["x.md#y"]);
    assert_eq!(
        code(text).collect::<Vec<_>>(),
        ["$ code", "more", "```sh", "# no heading", "```"]
    );
    let cells = vec!["`r`".to_owned(), "x | y".to_owned()];
    assert_eq!(rows(text, "rule"), [("X".to_owned(), cells)]);
}
