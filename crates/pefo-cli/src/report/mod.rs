//! `pefo report`: how this host and its peers have done, to be looked at: a page, or a few lines.
//!
//! [`ReportData`] is all there is to tell, a value; the page is made of nothing else, so that the same data give
//! the same page. It holds everything it needs and asks nobody for more: no script, no font, no network. Whatever a
//! peer has a say in (names, reasons) is escaped, by the library that writes the markup.

mod data;
mod page;
mod plot;
mod scale;
mod text;
mod words;

use std::io::Read as _;
use std::path::Path;

use pefo_core::disk::Attributes;
use pefo_core::{Error, Result};
use serde_json::json;

pub use data::{Amiss, DrillTold, Point, Refusal, ReportData, RunTold, Series, Told};
pub use page::page;

use crate::config::Span;
use crate::host::Host;
use crate::outcome::Report;

/// By which a file is known as a report of ours.
const MARK: &str = "<meta name=\"generator\" content=\"pefo ";
/// It stands within so many bytes.
const MARK_WITHIN: u64 = 1024;

/// Tells of the last `since`, as a page in the file `html` or as text.
///
/// # Errors
/// `Config` where this host is not set up; `Refused` (`report-foreign`) where the file is there and is no report of
/// pefo's; `Io`.
pub fn run(host: &Host, since: Span, html: Option<&Path>) -> Result<Report> {
    let data = ReportData::gather(host, since)?;
    let mut text = text::summary(&data);
    let mut details = serde_json::to_value(&data)
        .map_err(|error| Error::invalid(format!("write the report: {error}")))?;
    if let Some(path) = html {
        let path = std::path::absolute(path).map_err(|error| Error::io("find", path, error))?;
        is_ours(&path)?;
        let page = page(&data);
        host.disk
            .publish(&path, page.as_bytes(), &Attributes::mode(0o600))?;
        text = format!("report: {}\n", path.display());
        if let Some(details) = details.as_object_mut() {
            details.insert("report".to_owned(), json!(path));
        }
    }
    Ok(Report::ok(details, text))
}

/// Lets nothing be replaced but a report.
fn is_ours(path: &Path) -> Result<()> {
    let failed = |error| Error::io("look at", path, error);
    let kind = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(failed)?.file_type(),
    };
    let mut begins = Vec::new();
    if kind.is_file() {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MARK_WITHIN)
            .read_to_end(&mut begins)
            .map_err(failed)?;
    }
    let is_ours = begins
        .windows(MARK.len())
        .any(|window| window == MARK.as_bytes());
    if is_ours {
        return Ok(());
    }
    let message = format!(
        "{} is there already and is no report of pefo's",
        path.display()
    );
    Err(Error::refused("report-foreign", message).hint("name another file, or move that one away"))
}

#[cfg(test)]
mod tests;
