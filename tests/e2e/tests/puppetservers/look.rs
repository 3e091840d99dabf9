//! What a CA directory and a server show.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pefo_testkit::puppetserver::{Answer, Instance, Request};
use pefo_testkit::wait;

/// Every file and directory below `directory`, by its path from there.
pub(super) fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::new()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(directory.join(&at)).unwrap() {
            let entry = entry.unwrap();
            let path = at.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

/// The inventory: serial and name of each row.
pub(super) fn rows(cadir: &Path) -> BTreeSet<(u64, String)> {
    let text = fs::read_to_string(cadir.join("inventory.txt")).unwrap();
    let row = |line: &str| {
        let (serial, name) = (
            line.split(' ').next().unwrap(),
            line.rsplit("/CN=").next().unwrap(),
        );
        (hex(serial.trim_start_matches("0x")), name.to_owned())
    };
    let rows: BTreeSet<_> = text.lines().map(row).collect();
    assert_eq!(
        rows.len(),
        text.lines().count(),
        "a row stands twice in the inventory:\n{text}"
    );
    rows
}

/// The next serial.
pub(super) fn counter(cadir: &Path) -> u64 {
    hex(fs::read_to_string(cadir.join("serial")).unwrap().trim())
}

pub(super) fn hex(digits: &str) -> u64 {
    u64::from_str_radix(digits, 16).unwrap()
}

/// How often the running JVM has started its services; a reload counts.
pub(super) fn starts_of(server: &Instance) -> String {
    fs::read_to_string(server.directory().join("run/restart")).unwrap()
}

/// Waits for the second after the one in which `file` was written: HTTP's dates have no parts of one.
pub(super) fn next_second_after(file: &Path) {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let written = seconds(fs::metadata(file).unwrap().modified().unwrap());
    wait::until("the next second", Duration::from_secs(10), || {
        seconds(SystemTime::now()) > written
    });
}

/// Asks for the CRL as an agent does that has `file` already: with its time as `If-Modified-Since`.
pub(super) fn crl_if_newer(server: &Instance, file: &Path) -> (u16, String) {
    let request = Request::get("/puppet-ca/v1/certificate_revocation_list/ca").newer_than(file);
    match server.request(&request) {
        Answer::Status { code, body } => (code, body),
        refused @ Answer::Refused(_) => panic!("ask for the CRL: {refused:?}"),
    }
}
