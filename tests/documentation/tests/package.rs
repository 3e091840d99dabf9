//! The Debian package: built twice to the same bytes, clean for lintian, installed into a scratch root, used,
//! and purged without the keys being lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use pefo_testkit::masters::built_binary;
use pefo_testkit::skip;

use crate::pages::run;
use crate::repository;

fn build(into: &Path) -> PathBuf {
    let output = Command::new("sh")
        .arg(repository().join("scripts/build-deb.sh"))
        .env("PEFO_BINARY", built_binary())
        .env("PEFO_PAGES", env!("CARGO_BIN_EXE_pages"))
        .env("PEFO_DEB_DIR", into)
        .env("PEFO_DEB_COMPRESSION", "-Zgzip -z1")
        .env("SOURCE_DATE_EPOCH", "1796040146")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Runs dpkg on a root of its own, its scripts without chroot(2).
fn dpkg(root: &Path, arguments: &[&str]) -> String {
    let output = run(Command::new("dpkg")
        .arg(format!("--root={}", root.display()))
        .args([
            "--force-script-chrootless",
            "--force-depends",
            "--force-not-root",
        ])
        .args(arguments));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[test]
fn the_package_is_reproducible_and_installs_and_purges_without_losing_keys() {
    let is_debian = ["dpkg-deb", "dpkg", "strip", "objdump"]
        .iter()
        .all(|program| Path::new("/usr/bin").join(program).exists());
    if !skip::unless(
        is_debian,
        "needs-debian",
        "a Debian package needs dpkg and binutils",
    ) || !skip::unless(is_root(), "needs-root", "dpkg installs as root only")
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (
        build(&dir.path().join("first")),
        build(&dir.path().join("second")),
    );
    assert!(
        std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(),
        "two builds of one commit differ"
    );

    // A root with an empty dpkg database.
    let root = dir.path().join("root");
    let admin = root.join("var/lib/dpkg");
    for below in ["info", "updates", "triggers"] {
        std::fs::create_dir_all(admin.join(below)).unwrap();
    }
    for file in ["status", "available"] {
        std::fs::write(admin.join(file), "").unwrap();
    }
    let said = dpkg(&root, &["--install", first.to_str().unwrap()]);
    assert!(said.contains("begin with 'pefo config example"), "{said}");

    // It runs, and what it needs to be understood is there.
    let installed = |path: &str| root.join(path);
    let version = run(Command::new(installed("usr/bin/pefo")).arg("--version"));
    assert!(version.stdout.starts_with(b"pefo "), "{version:?}");
    for path in [
        "etc/pefo",
        "usr/share/man/man1/pefo.1.gz",
        "usr/share/man/man1/pefo-ca-push.1.gz",
        "usr/share/man/man5/pefo.toml.5.gz",
        "usr/share/bash-completion/completions/pefo",
        "usr/share/zsh/vendor-completions/_pefo",
        "usr/share/fish/vendor_completions.d/pefo.fish",
        "usr/share/doc/pefo/copyright",
        "usr/share/doc/pefo/changelog.gz",
        "usr/share/doc/pefo/README.md",
        "usr/share/doc/pefo/docs/check.md",
    ] {
        assert!(installed(path).exists(), "{path} is not installed");
    }
    let example =
        std::fs::read_to_string(installed("usr/share/doc/pefo/examples/pefo.toml")).unwrap();
    assert_eq!(example, pefo_cli::config::EXAMPLE);
    let units = [
        "lib/systemd",
        "usr/lib/systemd",
        "etc/systemd",
        "etc/cron.d",
        "etc/init.d",
    ];
    for unit in units {
        assert!(!installed(unit).exists(), "installing arms {unit}");
    }

    // Purging leaves what pefo itself keeps.
    let keys = installed("var/lib/pefo/keys");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::write(keys.join("signing.key"), "secret").unwrap();
    std::fs::write(installed("etc/pefo/pefo.toml"), "mine").unwrap();
    let said = dpkg(&root, &["--purge", "pefo"]);
    assert!(said.contains("/var/lib/pefo stays"), "{said}");
    assert!(keys.join("signing.key").exists() && installed("etc/pefo/pefo.toml").exists());
    assert!(!installed("usr/bin/pefo").exists());

    let found = Path::new("/usr/bin/lintian").exists();
    if skip::unless(
        found,
        "needs-lintian",
        "the package lintian is not installed",
    ) {
        let said = run(Command::new("lintian")
            .args(["--fail-on", "error,warning"])
            .arg(&first));
        let told = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(
            said.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
}

fn is_root() -> bool {
    let id = run(Command::new("id").arg("-u"));
    id.stdout == b"0\n"
}
