//! Where the cadir is found, and which are refused.

use std::os::unix::fs::symlink;

use pefo_ca::layout::puppet_owner;
use pefo_ca::{DetectOptions, Series};

use super::*;

fn root_with(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    root
}

const WHOLE: [&str; 3] = ["ca_crt.pem", "serial", "inventory.txt"];

fn with_cadir(cadir: &str) -> TempDir {
    let files: Vec<_> = WHOLE
        .iter()
        .map(|file| (format!("{cadir}/{file}"), "x"))
        .collect();
    root_with(
        &files
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect::<Vec<_>>(),
    )
}

fn detect(root: &TempDir) -> pefo_core::Result<CaLayout> {
    CaLayout::detect(&DetectOptions::default().root(root.path()))
}

#[test]
fn each_series_is_found_in_its_place() {
    for (cadir, series) in [
        ("etc/puppetlabs/puppet/ssl/ca", Series::BelowSsldir),
        ("etc/puppetlabs/puppetserver/ca", Series::Puppetserver),
        ("etc/puppet/puppetserver/ca", Series::Debian),
        ("var/lib/puppet/ssl/ca", Series::BelowSsldir),
    ] {
        let root = with_cadir(cadir);
        let layout = detect(&root).unwrap();
        assert_eq!(
            (layout.cadir(), layout.series()),
            (
                root.path().canonicalize().unwrap().join(cadir).as_path(),
                series
            )
        );
    }
}

#[test]
fn the_symlink_that_migration_leaves_is_followed_and_a_real_directory_wins() {
    let root = with_cadir("etc/puppetlabs/puppetserver/ca");
    let ssl = root.path().join("etc/puppetlabs/puppet/ssl");
    std::fs::create_dir_all(&ssl).unwrap();
    symlink(
        root.path().join("etc/puppetlabs/puppetserver/ca"),
        ssl.join("ca"),
    )
    .unwrap();
    assert_eq!(detect(&root).unwrap().series(), Series::Puppetserver);
    let named = CaLayout::detect(
        &DetectOptions::default()
            .root(root.path())
            .cadir(ssl.join("ca")),
    )
    .unwrap();
    assert!(
        named.cadir().ends_with("puppetserver/ca"),
        "{:?} is canonical",
        named.cadir()
    );
    assert_eq!(named.found_at(), ssl.join("ca"));
    std::fs::remove_file(ssl.join("ca")).unwrap();
    for file in WHOLE {
        std::fs::create_dir_all(ssl.join("ca")).unwrap();
        std::fs::write(ssl.join("ca").join(file), "x").unwrap();
    }
    assert_eq!(detect(&root).unwrap().series(), Series::BelowSsldir);
}

#[test]
fn puppet_conf_names_the_cadir() {
    let root = with_cadir("srv/ca");
    let conf = root.path().join("etc/puppetlabs/puppet/puppet.conf");
    std::fs::create_dir_all(conf.parent().unwrap()).unwrap();
    std::fs::write(
        &conf,
        "[agent]\ncadir = /nowhere\n[server]\n# cadir = /nowhere\ncadir = /srv/ca\n",
    )
    .unwrap();
    assert!(detect(&root).unwrap().cadir().ends_with("srv/ca"));
    std::fs::write(&conf, "[main]\ncadir = $ssldir/ca\n").unwrap();
    let error = detect(&root).unwrap_err();
    assert!(
        error.to_string().contains("$ssldir/ca") && error.hint_text().is_some(),
        "{error}"
    );
}

#[test]
fn a_missing_ca_is_named_so() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(detect(&root).unwrap_err().rule(), Some("ca-missing"));
    assert_eq!(
        CaLayout::at(root.path().join("nowhere"))
            .unwrap_err()
            .rule(),
        Some("ca-missing")
    );
}

#[test]
fn a_ca_in_a_database_is_refused_by_every_sign_of_it() {
    let cadir = "etc/puppetlabs/puppetserver/ca";
    let root = with_cadir(cadir);
    std::fs::write(root.path().join(cadir).join(".private-key-passphrase"), "x").unwrap();
    assert_eq!(detect(&root).unwrap_err().rule(), Some("ca-in-database"));
    let accepting = DetectOptions::default()
        .root(root.path())
        .accept("ca-in-database");
    assert!(CaLayout::detect(&accepting).is_ok());

    let root = root_with(&[("etc/puppetlabs/puppetserver/ca/ca_crt.pem", "x")]);
    assert_eq!(detect(&root).unwrap_err().rule(), Some("ca-in-database"));

    for (file, text, refused) in [
        (
            "etc/puppetlabs/enterprise/conf.d/pe.conf",
            "\"puppet_enterprise::ca_storage_backend\": \"database\"",
            true,
        ),
        (
            "etc/puppetlabs/enterprise/conf.d/pe.conf",
            "\"puppet_enterprise::ca_storage_backend\": \"filesystem\"",
            false,
        ),
        (
            "etc/puppetlabs/enterprise/conf.d/pe.conf",
            "# \"puppet_enterprise::ca_storage_backend\": \"database\"",
            false,
        ),
        (
            "etc/puppetlabs/puppetserver/conf.d/ca.conf",
            "certificate-authority: { allow-subject-alt-names: true }",
            false,
        ),
    ] {
        let root = with_cadir(cadir);
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        assert_eq!(
            detect(&root)
                .err()
                .and_then(|error| error.rule().map(str::to_owned))
                .is_some(),
            refused,
            "{text}"
        );
    }
}

#[test]
fn openvox_ca_is_refused() {
    let root = with_cadir("etc/puppetlabs/puppetserver/ca");
    let dir = root.path().join("etc/puppetlabs/puppetserver/ca/private");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("ca_key.pem"), "x").unwrap();
    assert_eq!(detect(&root).unwrap_err().rule(), Some("ca-openvox-go"));
}

#[test]
fn a_ca_without_its_key_cannot_give_it() {
    let pair = Pair::new();
    let layout = CaLayout::at(&pair.b).unwrap();
    assert!(layout.key_path().is_ok());
    std::fs::remove_file(pair.b.join("ca_key.pem")).unwrap();
    assert_eq!(
        layout.key_path().unwrap_err().rule(),
        Some("ca-key-missing")
    );
    assert_eq!(
        pefo_ca::SeedKey::read(&layout).unwrap_err().rule(),
        Some("ca-key-missing")
    );
}

#[test]
fn the_owner_is_pe_puppet_where_there_is_one() {
    let passwd = "root:x:0:0::/:/bin/sh\npuppet:x:52:53::/:/bin/false\n";
    let root = root_with(&[("etc/passwd", passwd)]);
    assert_eq!(puppet_owner(root.path()).unwrap(), (52, 53));
    let root = root_with(&[(
        "etc/passwd",
        &format!("{passwd}pe-puppet:x:998:997::/:/bin/false\n"),
    )]);
    assert_eq!(puppet_owner(root.path()).unwrap(), (998, 997));
    let root = root_with(&[("etc/passwd", "root:x:0:0::/:/bin/sh\n")]);
    assert!(puppet_owner(root.path()).unwrap_err().hint_text().is_some());
}
