//! Whether a destination is what it should be: same paths, kinds, modes, times and contents.
//!
//! Everything is read, since a benchmark that believes a size and a time would not see a file of
//! zeroes. Times are compared to the nanosecond, those of directories not at all: they are no data.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pefo_core::{Error, ErrorKind, Result};
use walkdir::WalkDir;

/// How much of two files is held in memory at a time.
const CHUNK_BYTES: usize = 1 << 16;
/// How many differences are told.
const TOLD: usize = 3;

/// Compares two directories.
///
/// # Errors
/// The first differences, in words; or a file that can not be read.
pub(crate) fn same(source: &Path, destination: &Path) -> Result<()> {
    let differences = differences(source, destination)?;
    if differences.is_empty() {
        return Ok(());
    }
    let told = differences.iter().take(TOLD).cloned().collect::<Vec<_>>();
    let more = differences.len() - told.len();
    let message = format!(
        "{} is not as {}: {}{}",
        destination.display(),
        source.display(),
        told.join("; "),
        if more > 0 {
            format!("; and {more} more differences")
        } else {
            String::new()
        }
    );
    Err(Error::new(ErrorKind::Invalid, message))
}

fn differences(source: &Path, destination: &Path) -> Result<Vec<String>> {
    let (wanted, found) = (list(source)?, list(destination)?);
    let mut differences = Vec::new();
    for (path, meta) in &wanted {
        let Some(other) = found.get(path) else {
            differences.push(format!("{} is missing", path.display()));
            continue;
        };
        let pair = (source.join(path), destination.join(path));
        if let Some(difference) = difference((&pair.0, meta), (&pair.1, other))? {
            differences.push(format!("{} has another {difference}", path.display()));
        }
    }
    let surplus = found.keys().filter(|path| !wanted.contains_key(*path));
    differences.extend(surplus.map(|path| format!("{} should not be there", path.display())));
    Ok(differences)
}

/// Every path below `root`, relative, with its metadata.
fn list(root: &Path) -> Result<BTreeMap<PathBuf, Metadata>> {
    let mut entries = BTreeMap::new();
    for entry in WalkDir::new(root).min_depth(1) {
        let read = entry.and_then(|entry| entry.metadata().map(|meta| (entry, meta)));
        let (entry, meta) = read.map_err(|error| Error::io("read", root, error.into()))?;
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        entries.insert(path.to_owned(), meta);
    }
    Ok(entries)
}

/// What differs first, in a word.
fn difference(a: (&Path, &Metadata), b: (&Path, &Metadata)) -> Result<Option<&'static str>> {
    let ((path, meta), (other_path, other)) = (a, b);
    if meta.file_type() != other.file_type() {
        return Ok(Some("kind"));
    }
    if meta.mode() != other.mode() {
        return Ok(Some("mode"));
    }
    if meta.is_symlink() {
        let target =
            |path: &Path| std::fs::read_link(path).map_err(|error| Error::io("read", path, error));
        return Ok((target(path)? != target(other_path)?).then_some("target"));
    }
    if !meta.is_file() {
        return Ok(None);
    }
    if (meta.mtime(), meta.mtime_nsec()) != (other.mtime(), other.mtime_nsec()) {
        return Ok(Some("time"));
    }
    if meta.len() != other.len() {
        return Ok(Some("size"));
    }
    Ok((!same_content(path, other_path)?).then_some("content"))
}

/// Compares the rows in two dumps of one database, as `pg_dump -Fd -Z0` writes them: a file for each table.
/// Their tables of contents hold the time, and differ.
///
/// # Errors
/// The first table that differs or is in one of them only; two dumps without a table.
pub(crate) fn same_rows(one: &Path, other: &Path) -> Result<()> {
    let tables = |dir: &Path| -> Result<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> = list(dir)?.into_keys().collect();
        paths.retain(|path| {
            path.extension().is_some_and(|extension| extension == "dat")
                && path != Path::new("toc.dat")
        });
        Ok(paths)
    };
    let (wanted, found) = (tables(one)?, tables(other)?);
    if wanted.is_empty() || wanted != found {
        let message = format!("the dump has the tables {found:?}, not {wanted:?}");
        return Err(Error::invalid(message));
    }
    for table in wanted {
        let (a, b) = (one.join(&table), other.join(&table));
        if !same_content(&a, &b)? {
            let message = format!("{} is not as {}", b.display(), a.display());
            return Err(Error::invalid(message));
        }
    }
    Ok(())
}

fn same_content(a: &Path, b: &Path) -> Result<bool> {
    let (mut left, mut right) = (open(a)?, open(b)?);
    let mut buffers = [vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]];
    loop {
        let [x, y] = &mut buffers;
        let (n, m) = (fill(&mut left, x, a)?, fill(&mut right, y, b)?);
        if x[..n] != y[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Error::io("open", path, error))
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8], path: &Path) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path, error)),
        }
    }
    Ok(filled)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests' own directories")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, SystemTime};

    /// Two directories with the same three files.
    fn two() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let roots = ["a", "b"].map(|name| dir.path().join(name));
        for root in &roots {
            std::fs::create_dir_all(root.join("deep")).unwrap();
            for name in ["deep/one", "three", "two"] {
                std::fs::write(root.join(name), name).unwrap();
                let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
                File::open(root.join(name))
                    .unwrap()
                    .set_modified(time)
                    .unwrap();
            }
        }
        let [a, b] = roots;
        (dir, a, b)
    }

    fn told(change: impl Fn(&Path)) -> String {
        let (_dir, a, b) = two();
        same(&a, &b).unwrap();
        change(&b);
        same(&a, &b).unwrap_err().to_string()
    }

    fn keep_time(path: &Path, change: impl Fn(&Path)) {
        let time = std::fs::metadata(path).unwrap().modified().unwrap();
        change(path);
        File::open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn every_kind_of_difference_is_seen_and_named() {
        let text = told(|b| std::fs::remove_file(b.join("two")).unwrap());
        assert!(text.ends_with("two is missing"), "{text}");
        let text = told(|b| std::fs::remove_dir_all(b.join("deep")).unwrap());
        assert!(
            text.ends_with("deep is missing; deep/one is missing"),
            "{text}"
        );
        let text = told(|b| std::fs::write(b.join("u"), "").unwrap());
        assert!(text.ends_with("u should not be there"), "{text}");
        let text = told(|b| {
            keep_time(&b.join("deep/one"), |path| {
                std::fs::write(path, "deep/onf").unwrap()
            });
        });
        assert!(text.ends_with("deep/one has another content"), "{text}");
        let text = told(|b| keep_time(&b.join("two"), |path| std::fs::write(path, "").unwrap()));
        assert!(text.ends_with("two has another size"), "{text}");
        let text = told(|b| std::fs::write(b.join("two"), "two").unwrap());
        assert!(text.ends_with("two has another time"), "{text}");
        let text = told(|b| {
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(b.join("two"), mode).unwrap();
        });
        assert!(text.ends_with("two has another mode"), "{text}");
    }

    #[test]
    fn dumps_hold_the_same_where_all_tables_do_whatever_their_contents_say() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        for (path, of_when) in [(&one, "09:00"), (&other, "10:00")] {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("toc.dat"), of_when).unwrap();
        }
        same_rows(&one, &other).unwrap_err();
        std::fs::write(one.join("3001.dat"), "1\n2\n").unwrap();
        same_rows(&one, &other).unwrap_err();
        std::fs::write(other.join("3001.dat"), "1\n2\n").unwrap();
        same_rows(&one, &other).unwrap();
        std::fs::write(other.join("3001.dat"), "1\n3\n").unwrap();
        let error = same_rows(&one, &other).unwrap_err();
        assert!(error.to_string().contains("3001.dat"), "{error}");
    }
}
