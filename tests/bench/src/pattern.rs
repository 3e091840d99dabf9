//! Which rows a command line means: names, in which `*` stands for anything.

use pefo_core::{Error, ErrorKind, Result};

/// The indices of the `names` that `patterns` mean, each once, in the order of `names`. Without any
/// pattern, all.
///
/// # Errors
/// A pattern that means none of them; the message tells them.
pub(crate) fn choose(names: &[&str], patterns: &[String]) -> Result<Vec<usize>> {
    for pattern in patterns {
        if !names.iter().any(|name| matches(pattern, name)) {
            let known = names.join(", ");
            let message = format!("no row is called {pattern}; there are {known}");
            return Err(Error::new(ErrorKind::Config, message));
        }
    }
    let wanted =
        |name: &str| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, name));
    let indices = names.iter().enumerate();
    Ok(indices
        .filter(|(_, name)| wanted(name))
        .map(|(index, _)| index)
        .collect())
}

/// Whether the whole of `name` is of the form `pattern`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        // No star at all.
        return rest.is_empty();
    };
    for part in parts {
        // The earliest place leaves most to those that follow.
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = [
        "tree_first_50k",
        "tree_noop_50k",
        "ca_noop",
        "delta_dump_wall",
    ];

    fn chosen(patterns: &[&str]) -> Vec<usize> {
        let patterns: Vec<String> = patterns.iter().map(|&text| text.to_owned()).collect();
        choose(&NAMES, &patterns).unwrap()
    }

    #[test]
    fn a_star_stands_for_anything_and_the_rest_for_itself() {
        assert_eq!(chosen(&["tree_*"]), [0, 1]);
        assert_eq!(chosen(&["*noop*"]), [1, 2]);
        assert_eq!(chosen(&["*_50k"]), [0, 1]);
        assert_eq!(chosen(&["t*e*_*k"]), [0, 1]);
        assert_eq!(chosen(&["ca_noop"]), [2]);
        assert!(!matches("ca_noo", "ca_noop"));
        assert!(!matches("a*a", "a"), "a letter was used twice");
        assert!(matches("**", ""));
    }

    #[test]
    fn each_row_comes_once_in_the_rows_order_and_all_without_a_pattern() {
        assert_eq!(chosen(&["delta_*", "tree_noop_50k", "*noop*"]), [1, 2, 3]);
        assert_eq!(chosen(&[]), [0, 1, 2, 3]);
    }

    #[test]
    fn a_pattern_that_means_nothing_is_told_with_the_rows_there_are() {
        let error = choose(&NAMES, &["tree_*".to_owned(), "db_*".to_owned()]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("db_*") && text.contains("ca_noop"), "{text}");
    }
}
