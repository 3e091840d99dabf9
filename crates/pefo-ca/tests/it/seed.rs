//! An empty standby gets the CA whole, or not at all.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use pefo_ca::seed::block_for;
use pefo_ca::{SeedKey, SeedOptions, ca_fingerprint, seed};
use pefo_core::RelPath;
use pefo_core::disk::fault::Counter;
use pefo_core::disk::power::{Crash, Loss};
use pefo_testkit::ca::Keys;

use super::*;

struct Seeding {
    pair: Pair,
    target: PathBuf,
    staged: Snapshot,
    key: SeedKey,
    options: SeedOptions,
}

impl Seeding {
    fn new() -> Self {
        let pair = Pair::new();
        let staged_dir = pair.root.path().join("staged");
        copy_tree(pair.a.dir(), &staged_dir).unwrap();
        for secret in ["ca_key.pem", "root_key.pem"] {
            std::fs::remove_file(staged_dir.join(secret)).unwrap();
        }
        let staged = snap(&staged_dir);
        let key = SeedKey::read(&CaLayout::at(pair.a.dir()).unwrap()).unwrap();
        let options = SeedOptions::new(
            ca_fingerprint(&staged).unwrap(),
            block_for(&staged).unwrap(),
            owner(),
        );
        let target = pair.root.path().join("puppetserver/ca");
        std::fs::create_dir(target.parent().unwrap()).unwrap();
        Self {
            pair,
            target,
            staged,
            key,
            options,
        }
    }

    fn run(&self) -> pefo_core::Result<pefo_ca::SeedReport> {
        self.run_with(&Disk::new(), &self.target)
    }

    fn run_with(&self, disk: &Disk, target: &Path) -> pefo_core::Result<pefo_ca::SeedReport> {
        seed(
            disk,
            target,
            &self.staged,
            &self.key,
            &self.options,
            &clock(),
        )
    }

    fn assert_whole(&self, dir: &Path) {
        let snapshot = snap(dir);
        snapshot.require_whole().unwrap();
        assert_eq!(snapshot.key_matches(), Some(true));
        assert_eq!(snapshot.problems(), []);
        assert!(!dir.join("root_key.pem").exists());
        let plan = plan(&snapshot, &self.staged, &rules().block(self.options.block));
        assert_eq!((refusals(&plan), plan.is_empty()), (vec![], true), "{plan}");
    }
}

#[test]
fn an_empty_or_missing_cadir_gets_the_whole_ca_with_a_counter_of_its_own() {
    let seeding = Seeding::new();
    for make_empty in [false, true] {
        if make_empty {
            std::fs::remove_dir_all(&seeding.target).unwrap();
            std::fs::create_dir_all(seeding.target.join("signed")).unwrap();
        }
        let report = seeding.run().unwrap();
        assert!(report.seeded && report.files >= 10, "{report:?}");
        seeding.assert_whole(&seeding.target);
        assert_eq!(
            std::fs::read_to_string(seeding.target.join("serial")).unwrap(),
            "110000"
        );
        let mode = |file: &str| {
            std::fs::metadata(seeding.target.join(file))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!(
            (mode("ca_key.pem"), mode(""), mode("signed")),
            (0o640, 0o750, 0o750)
        );
    }
    assert!(
        !seeding.run().unwrap().seeded,
        "a second time there is nothing to do"
    );
}

#[test]
fn files_get_the_modes_recorded_at_the_source_and_not_those_of_the_staged_copy() {
    let mut seeding = Seeding::new();
    let mode_of = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let recorded: Vec<(RelPath, u32)> = seeding
        .staged
        .files()
        .map(|(path, _, mode)| (path.clone(), mode))
        .collect();
    let staged_dir = seeding.pair.root.path().join("staged");
    for (path, _) in &recorded {
        let closed = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path.in_dir(&staged_dir), closed).unwrap();
    }
    let elsewhere = RelPath::new("signed/nobody.lab.pem").unwrap();
    let modes = recorded.iter().map(|(path, mode)| (path, *mode));
    seeding.staged = snap(&staged_dir).with_modes(modes.chain([(&elsewhere, 0o777)]));
    seeding.run().unwrap();
    for (path, mode) in recorded
        .iter()
        .filter(|(path, _)| path.as_str() != "serial")
    {
        assert_eq!(
            mode_of(&path.in_dir(&seeding.target)),
            mode & 0o644,
            "{path}"
        );
    }
    assert!(recorded.iter().any(|(_, mode)| mode & 0o040 != 0));
    assert!(!elsewhere.in_dir(&seeding.target).exists());
}

#[test]
fn a_ca_with_another_fingerprint_is_refused() {
    let mut seeding = Seeding::new();
    seeding.options.fingerprint = "AA:BB".to_owned();
    assert_eq!(seeding.run().unwrap_err().rule(), Some("ca-fingerprint"));
    assert!(!seeding.target.exists());
}

#[test]
fn a_key_of_another_ca_is_refused() {
    let mut seeding = Seeding::new();
    seeding.key = SeedKey::new(std::fs::read(seeding.pair.a.dir().join("root_key.pem")).unwrap());
    assert_eq!(seeding.run().unwrap_err().rule(), Some("ca-identity"));
    seeding.key = SeedKey::new(
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
            .to_vec(),
    );
    assert!(seeding.run().unwrap_err().to_string().contains("encrypted"));
    assert!(!seeding.target.exists());
}

#[test]
fn another_authority_is_replaced_only_when_asked_and_kept_aside() {
    let mut seeding = Seeding::new();
    TestCa::create(
        &seeding.target,
        options().keys(Keys::OtherRsa).ca_name("Puppet CA: spare"),
    )
    .unwrap();
    let before = contents(&seeding.target);
    let error = seeding.run().unwrap_err();
    assert_eq!(error.rule(), Some("ca-other-authority"));
    assert!(error.to_string().contains("Puppet CA: spare"));
    assert_eq!(contents(&seeding.target), before);
    seeding.options = seeding.options.replace(true);
    let report = seeding.run().unwrap();
    assert_eq!(contents(&report.replaced.unwrap()), before);
    seeding.assert_whole(&seeding.target);
}

#[test]
fn files_that_are_no_ca_are_not_walked_over() {
    let seeding = Seeding::new();
    std::fs::create_dir(&seeding.target).unwrap();
    std::fs::write(seeding.target.join("serial"), "0001").unwrap();
    assert_eq!(seeding.run().unwrap_err().rule(), Some("ca-partial"));
    assert_eq!(
        std::fs::read_to_string(seeding.target.join("serial")).unwrap(),
        "0001"
    );
}

#[test]
fn a_half_source_seeds_nothing() {
    let mut seeding = Seeding::new();
    let staged = seeding.pair.root.path().join("staged");
    std::fs::write(staged.join("ca_crl.pem"), "torn").unwrap();
    seeding.staged = snap(&staged);
    assert_eq!(
        seeding.run().unwrap_err().rule(),
        Some("ca-source-unreadable")
    );
    assert!(!seeding.target.exists());
}

#[test]
fn a_symlinked_cadir_is_seeded_where_it_points() {
    let seeding = Seeding::new();
    let link = seeding.pair.root.path().join("ssl-ca");
    std::os::unix::fs::symlink("puppetserver/ca", &link).unwrap();
    seeding.run_with(&Disk::new(), &link).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    seeding.assert_whole(&seeding.target);
}

#[test]
fn at_any_operation_there_is_no_ca_or_the_whole_one() {
    let seeding = Seeding::new();
    let counter = Arc::new(Counter::default());
    seeding
        .run_with(&Disk::with_hook(counter.clone()), &seeding.target)
        .unwrap();
    for point in 0..counter.count() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("ca");
        let crash = Arc::new(Crash::at(point, root.path()).unwrap());
        assert!(
            seeding
                .run_with(&Disk::with_hook(crash.clone()), &target)
                .is_err()
                || target.exists()
        );
        let after = tempfile::tempdir().unwrap();
        crash
            .recorder()
            .lose_power(after.path(), Loss::Everything)
            .unwrap();
        for target in [target, after.path().join("ca")] {
            if target.exists() {
                seeding.assert_whole(&target);
            }
            seeding.run_with(&Disk::new(), &target).unwrap();
            seeding.assert_whole(&target);
        }
    }
}

#[test]
fn a_key_is_never_shown() {
    assert_eq!(
        format!("{:?}", SeedKey::new(b"secret".to_vec())),
        "SeedKey(6 bytes)"
    );
}
