#![expect(
    clippy::disallowed_methods,
    reason = "tests lay out both hosts' files by hand"
)]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::survey::{Local, Place, Way};
use super::*;
use crate::disk::fault::{Counter, StopAt};
use crate::disk::power::{Order, without_each_sync};
use crate::disk::{Disk, is_temp_name};
use crate::{Digest, Result};

const DIR: &str = "/etc/keys";

fn path(text: &str) -> HostPath {
    HostPath::new(text).unwrap()
}

/// Knows one account, the test's own, and calls it `me`.
struct Here;

impl Accounts for Here {
    fn user_id(&self, name: &AccountName) -> Result<Option<u32>> {
        Ok((name.as_str() == "me").then(|| rustix::process::geteuid().as_raw()))
    }
    fn group_id(&self, name: &AccountName) -> Result<Option<u32>> {
        Ok((name.as_str() == "me").then(|| rustix::process::getegid().as_raw()))
    }
    fn user_name(&self, uid: u32) -> Result<Option<AccountName>> {
        let is_mine = uid == rustix::process::geteuid().as_raw();
        Ok(is_mine.then(|| AccountName::new("me").unwrap()))
    }
    fn group_name(&self, gid: u32) -> Result<Option<AccountName>> {
        let is_mine = gid == rustix::process::getegid().as_raw();
        Ok(is_mine.then(|| AccountName::new("me").unwrap()))
    }
}

fn write(root: &Path, name: &str, content: &str, mode: u32) {
    let full = root.join(name.trim_start_matches('/'));
    std::fs::create_dir_all(full.parent().unwrap()).unwrap();
    std::fs::write(&full, content).unwrap();
    std::fs::set_permissions(&full, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn list_of(paths: &[&str]) -> FileList {
    let entries = paths.iter().map(|text| Entry {
        path: path(text),
        need: Need::Wanted,
    });
    FileList::new(entries.collect(), Vec::new(), &host_specific().unwrap()).unwrap()
}

fn read(root: &Path, list: &FileList) -> Result<Snapshot> {
    Snapshot::read(root, list, &Here, &Limits::default())
}

fn planned(root: &Path, bundle: &Bundle, list: &FileList) -> FilesPlan {
    let survey = Survey::take(root, bundle.index(), list).unwrap();
    let ids = Ids::of(bundle.index(), &Here).unwrap();
    plan(
        bundle.index(),
        &survey,
        list,
        &ids,
        &PlanRules::new(1 << 20),
    )
}

fn apply_all(
    disk: &Disk,
    root: &Path,
    bundle: &Bundle,
    list: &FileList,
) -> Result<Option<PathBuf>> {
    let dir = root.join("backups");
    let backup = Backup {
        dir: &dir,
        name: "1",
        max_bytes: 1 << 20,
    };
    apply(disk, root, &planned(root, bundle, list), bundle, &backup)
}

/// An active with three files, a spare with an old one of them and one of its own.
struct Hosts {
    dir: tempfile::TempDir,
    list: FileList,
}

impl Hosts {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::lay_out(dir.path());
        let list = list_of(&[DIR, "/etc/hiera.yaml"]);
        Self { dir, list }
    }

    fn lay_out(dir: &Path) {
        let (a, b) = (dir.join("a"), dir.join("b"));
        write(&a, "/etc/keys/private.pem", "a secret", 0o400);
        write(&a, "/etc/keys/deep/er.json", "another", 0o640);
        chmod(&a.join("etc/keys/deep"), 0o750);
        write(&a, "/etc/hiera.yaml", "version: 5", 0o644);
        write(&b, "/etc/hiera.yaml", "version: 3", 0o600);
        write(&b, "/etc/keys/own.pem", "the spare's", 0o600);
    }

    fn a(&self) -> PathBuf {
        self.dir.path().join("a")
    }

    fn b(&self) -> PathBuf {
        self.dir.path().join("b")
    }

    fn sent(&self) -> Bundle {
        read(&self.a(), &self.list).unwrap().bundle
    }
}

fn mode_of(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// What a spare's files are: the old ones or the new ones; whether all are new.
fn old_or_new(b: &Path) -> std::result::Result<bool, String> {
    let mut all_new = true;
    for (name, old, new, new_mode) in [
        ("etc/hiera.yaml", Some("version: 3"), "version: 5", 0o644),
        ("etc/keys/private.pem", None, "a secret", 0o400),
        ("etc/keys/deep/er.json", None, "another", 0o640),
    ] {
        let full = b.join(name);
        let content = std::fs::read_to_string(&full).ok();
        if content.as_deref() == Some(new) && mode_of(&full) == new_mode {
            continue;
        }
        all_new = false;
        if content.as_deref() != old {
            return Err(format!("{name}: {content:?}"));
        }
    }
    let deep = b.join("etc/keys/deep");
    if deep.exists() && mode_of(&deep) != 0o750 {
        return Err(format!("deep has mode {:o}", mode_of(&deep)));
    }
    let own = std::fs::read_to_string(b.join("etc/keys/own.pem")).ok();
    if own.as_deref() != Some("the spare's") {
        return Err(format!("own.pem: {own:?}"));
    }
    Ok(all_new)
}

fn temps_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let count = |entry: std::fs::DirEntry| {
        let is_temp = is_temp_name(&entry.file_name().to_string_lossy());
        let below = entry.path().is_dir().then(|| temps_below(&entry.path()));
        usize::from(is_temp) + below.unwrap_or(0)
    };
    entries.map(count).sum()
}

#[test]
fn a_plan_says_what_each_file_comes_to_and_no_word_of_its_content() {
    let hosts = Hosts::new();
    let (bundle, list) = (hosts.sent(), &hosts.list);
    let text = planned(&hosts.b(), &bundle, list).to_string();
    assert_eq!(
        text,
        "new dir    /etc/keys/deep (mode 0750, me:me)\n\
         changed    /etc/hiera.yaml (content, 10 to 10 bytes; mode 0600 to 0644)\n\
         new        /etc/keys/deep/er.json (7 bytes, mode 0640, me:me)\n\
         new        /etc/keys/private.pem (8 bytes, mode 0400, me:me)\n\
         only here  /etc/keys/own.pem: kept\n\
         unchanged  0\n"
    );
    let kept = apply_all(&Disk::new(), &hosts.b(), &bundle, list)
        .unwrap()
        .unwrap();
    assert_eq!(old_or_new(&hosts.b()), Ok(true));
    let copy = kept.join("etc/hiera.yaml");
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "version: 3");
    assert_eq!((mode_of(&copy), mode_of(&kept)), (0o600, 0o700));
    let again = planned(&hosts.b(), &bundle, list);
    assert_eq!((again.is_empty(), again.unchanged), (true, 3));
    assert_eq!(
        apply_all(&Disk::new(), &hosts.b(), &bundle, list).unwrap(),
        None
    );
}

#[test]
fn a_mode_alone_is_a_change_and_is_told_as_one() {
    let hosts = Hosts::new();
    let (bundle, list) = (hosts.sent(), &hosts.list);
    apply_all(&Disk::new(), &hosts.b(), &bundle, list).unwrap();
    chmod(&hosts.b().join("etc/hiera.yaml"), 0o666);
    let plan = planned(&hosts.b(), &bundle, list);
    let text = plan.to_string();
    assert!(
        text.starts_with("changed    /etc/hiera.yaml (mode 0666 to 0644)\n"),
        "{text}"
    );
    let machines = serde_json::to_string(&plan).unwrap();
    assert!(!machines.contains(&Digest::of(b"version: 5").to_string()));
}

#[test]
fn what_is_unfit_to_cross_is_refused_on_the_active_by_name() {
    type LayOut = fn(&Path);
    let cases: [(&str, LayOut); 8] = [
        ("files-symlink", |etc| {
            symlink("/etc/passwd", etc.join("keys/link")).unwrap()
        }),
        ("files-symlink", |etc| {
            std::fs::rename(etc.join("keys"), etc.join("elsewhere")).unwrap();
            symlink("elsewhere", etc.join("keys")).unwrap();
        }),
        ("files-special", |etc| {
            let fifo = etc.join("keys/fifo");
            rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from(0o600)).unwrap();
        }),
        ("files-mode", |etc| {
            chmod(&etc.join("keys/private.pem"), 0o4755)
        }),
        ("files-mode", |etc| {
            chmod(&etc.join("keys/private.pem"), 0o646)
        }),
        ("files-parent-open", |etc| {
            chmod(&etc.join("keys/deep"), 0o777)
        }),
        ("files-parent-open", |etc| chmod(etc, 0o777)),
        ("files-too-large", |etc| {
            std::fs::File::create(etc.join("keys/large"))
                .unwrap()
                .set_len(17 << 20)
                .unwrap();
        }),
    ];
    for (rule, lay_out) in cases {
        let hosts = Hosts::new();
        lay_out(&hosts.a().join("etc"));
        let error = read(&hosts.a(), &hosts.list).unwrap_err();
        assert_eq!(error.rule(), Some(rule), "{error}");
        assert!(error.hint_text().is_some(), "{error}");
        let names_it = error.to_string().contains("/etc");
        assert!(names_it || rule == "files-too-large", "{error}");
    }
}

#[test]
fn an_exclusion_lets_the_rest_cross_and_a_temp_file_never_does() {
    let hosts = Hosts::new();
    symlink("x", hosts.a().join("etc/keys/link")).unwrap();
    write(&hosts.a(), "/etc/keys/.pefo-files-3.tmp", "left", 0o600);
    let entries = hosts.list.entries().to_vec();
    let list = FileList::new(entries, vec![path("/etc/keys/link")], &[]).unwrap();
    let snapshot = read(&hosts.a(), &list).unwrap();
    let names: Vec<String> = snapshot
        .bundle
        .files()
        .map(|(file, _)| file.path.to_string())
        .collect();
    assert_eq!(
        names,
        [
            "/etc/hiera.yaml",
            "/etc/keys/deep/er.json",
            "/etc/keys/private.pem"
        ]
    );
}

#[test]
fn what_is_wanted_and_not_there_is_named() {
    let hosts = Hosts::new();
    let list = list_of(&["/etc/hiera.yaml", "/etc/none", "/etc/none.d/x"]);
    let missing = read(&hosts.a(), &list).unwrap().missing;
    assert_eq!(missing, [path("/etc/none"), path("/etc/none.d/x")]);
    assert_eq!(snapshot::missing(&hosts.a(), &list), missing);
}

#[test]
fn the_spare_writes_only_what_its_own_list_names() {
    let hosts = Hosts::new();
    let mine = list_of(&["/etc/hiera.yaml"]);
    let plan = planned(&hosts.b(), &hosts.sent(), &mine);
    let rules: Vec<_> = plan.refused.iter().map(|refusal| refusal.rule).collect();
    assert_eq!(rules, ["files-not-listed"; 2]);
    assert_eq!(plan.steps.len(), 1);
    let told: Vec<String> = plan.errors().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "/etc/keys/deep/er.json and 1 more: this host's own configuration does not list it [files-not-listed]"
        ]
    );
}

#[test]
fn what_stands_in_the_way_on_the_spare_is_refused_and_left_as_it_is() {
    type LayOut = fn(&Path);
    let cases: [(&str, LayOut); 5] = [
        ("files-symlink", |etc| {
            symlink("/nowhere", etc.join("keys/private.pem")).unwrap()
        }),
        ("files-in-the-way", |etc| {
            std::fs::create_dir(etc.join("keys/private.pem")).unwrap()
        }),
        ("files-symlink", |etc| {
            symlink("/tmp", etc.join("keys/deep")).unwrap()
        }),
        ("files-in-the-way", |etc| {
            std::fs::write(etc.join("keys/deep"), "x").unwrap()
        }),
        ("files-parent-open", |etc| chmod(&etc.join("keys"), 0o777)),
    ];
    for (rule, lay_out) in cases {
        let hosts = Hosts::new();
        lay_out(&hosts.b().join("etc"));
        let plan = planned(&hosts.b(), &hosts.sent(), &hosts.list);
        assert!(!plan.refused.is_empty(), "{rule}: {plan}");
        assert!(
            plan.refused.iter().all(|refusal| refusal.rule == rule),
            "{rule}: {plan}"
        );
        // The others are written.
        apply_all(&Disk::new(), &hosts.b(), &hosts.sent(), &hosts.list).unwrap();
        let hiera = std::fs::read_to_string(hosts.b().join("etc/hiera.yaml")).unwrap();
        assert_eq!(hiera, "version: 5");
        assert_eq!(
            planned(&hosts.b(), &hosts.sent(), &hosts.list).refused,
            plan.refused
        );
    }
}

#[test]
fn an_open_directory_is_written_to_where_the_operator_says_so() {
    let hosts = Hosts::new();
    chmod(&hosts.b().join("etc/keys"), 0o777);
    let bundle = hosts.sent();
    let survey = Survey::take(&hosts.b(), bundle.index(), &hosts.list).unwrap();
    let ids = Ids::of(bundle.index(), &Here).unwrap();
    let rules = PlanRules::new(1 << 20).accept([PARENT_OPEN.to_owned()]);
    let plan = plan(bundle.index(), &survey, &hosts.list, &ids, &rules);
    assert_eq!(plan.refused, []);
    let backups = hosts.dir.path().join("backups");
    let backup = Backup {
        dir: &backups,
        name: "1",
        max_bytes: 100,
    };
    apply(&Disk::new(), &hosts.b(), &plan, &bundle, &backup).unwrap();
    assert_eq!(old_or_new(&hosts.b()), Ok(true));
}

#[test]
fn an_account_that_the_spare_does_not_have_is_named() {
    let hosts = Hosts::new();
    let bundle = hosts.sent();
    let survey = Survey::take(&hosts.b(), bundle.index(), &hosts.list).unwrap();
    let plan = plan(
        bundle.index(),
        &survey,
        &hosts.list,
        &Ids::knowing(&[]),
        &PlanRules::new(9),
    );
    assert_eq!((plan.steps.len(), plan.refused.len()), (0, 3));
    let error = plan.errors().remove(0).to_string();
    assert!(
        error.contains("user me does not exist here [files-owner]"),
        "{error}"
    );
}

#[test]
fn a_directory_swapped_for_a_symlink_after_the_plan_leads_nothing_astray() {
    let hosts = Hosts::new();
    let (bundle, b) = (hosts.sent(), hosts.b());
    let plan = planned(&b, &bundle, &hosts.list);
    std::fs::create_dir(hosts.dir.path().join("outside")).unwrap();
    std::fs::rename(b.join("etc/keys"), b.join("etc/away")).unwrap();
    symlink(hosts.dir.path().join("outside"), b.join("etc/keys")).unwrap();
    let backups = hosts.dir.path().join("backups");
    let backup = Backup {
        dir: &backups,
        name: "1",
        max_bytes: 100,
    };
    let error = apply(&Disk::new(), &b, &plan, &bundle, &backup).unwrap_err();
    assert_eq!(error.rule(), Some("files-symlink"), "{error}");
    assert_eq!(
        std::fs::read_dir(hosts.dir.path().join("outside"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        std::fs::read_to_string(b.join("etc/hiera.yaml")).unwrap(),
        "version: 3"
    );
    assert_eq!(temps_below(&b), 0);
}

#[test]
fn a_run_that_dies_anywhere_leaves_old_or_new_and_the_next_one_finishes() {
    let whole = Hosts::new();
    let counter = Arc::new(Counter::default());
    apply_all(
        &Disk::with_hook(counter.clone()),
        &whole.b(),
        &whole.sent(),
        &whole.list,
    )
    .unwrap();
    assert!(counter.count() > 20, "{}", counter.count());
    for operations in 0..counter.count() {
        let hosts = Hosts::new();
        let (b, bundle) = (hosts.b(), hosts.sent());
        let disk = Disk::with_hook(Arc::new(StopAt::new(operations)));
        assert!(
            apply_all(&disk, &b, &bundle, &hosts.list).is_err(),
            "{operations}"
        );
        old_or_new(&b).unwrap_or_else(|what| panic!("after {operations}: {what}"));
        let dir = b.join("backups");
        let backup = Backup {
            dir: &dir,
            name: "2",
            max_bytes: 100,
        };
        let plan = planned(&b, &bundle, &hosts.list);
        apply(&Disk::new(), &b, &plan, &bundle, &backup).unwrap();
        assert_eq!(old_or_new(&b), Ok(true), "after {operations}");
        assert_eq!(temps_below(&b.join("etc")), 0, "after {operations}");
        let kept = |name: &str| std::fs::read_to_string(dir.join(name).join("etc/hiera.yaml"));
        let kept = kept("1").or_else(|_| kept("2")).unwrap();
        assert_eq!(kept, "version: 3", "after {operations}");
    }
}

#[test]
fn power_that_is_lost_anywhere_leaves_old_or_new_with_the_old_one_kept() {
    let hosts = Hosts::new();
    let bundle = hosts.sent();
    let scratch = tempfile::tempdir().unwrap();
    let findings = without_each_sync(
        scratch.path(),
        Order::Any,
        Hosts::lay_out,
        |stage| {
            apply_all(&stage.disk(), &stage.dir().join("b"), &bundle, &hosts.list).unwrap();
            stage.answered();
        },
        |dir, answers| {
            let b = dir.join("b");
            let Ok(all_new) = old_or_new(&b) else {
                return false;
            };
            let is_new = std::fs::read_to_string(b.join("etc/hiera.yaml")).unwrap() == "version: 5";
            let kept = std::fs::read_to_string(b.join("backups/1/etc/hiera.yaml"));
            (answers == 0 || all_new) && (!is_new || kept.is_ok_and(|kept| kept == "version: 3"))
        },
    )
    .unwrap();
    findings.assert_each_is_needed();
}

#[test]
fn a_bundle_says_nothing_twice_the_same_and_means_the_same() {
    let hosts = Hosts::new();
    let (one, two) = (hosts.sent(), hosts.sent());
    assert_ne!(one.to_bytes().unwrap(), two.to_bytes().unwrap());
    assert_eq!(
        one.index().meaning().unwrap(),
        two.index().meaning().unwrap()
    );
    chmod(&hosts.a().join("etc/hiera.yaml"), 0o600);
    let three = hosts.sent();
    assert_ne!(
        one.index().meaning().unwrap(),
        three.index().meaning().unwrap()
    );
    assert_eq!(
        IndexDiff::between(one.index(), three.index()).to_string(),
        "attributes /etc/hiera.yaml\n"
    );
    assert!(!format!("{one:?}").contains("secret"));
}

fn small_index() -> impl Strategy<Value = Vec<(String, Vec<u8>, u32)>> {
    let mode = prop_oneof![Just(0o640_u32), Just(0o400), Just(0o4755), Just(0o666)];
    let content = prop::collection::vec(any::<u8>(), 0..6);
    let file = ("[a-c]{1,2}(/[a-c])?", content, mode);
    prop::collection::vec(file, 0..8)
}

/// A bundle of files below `/etc`, those left out that would be a file and a directory.
fn bundle_of(files: &[(String, Vec<u8>, u32)]) -> Bundle {
    let me = AccountName::new("me").unwrap();
    let mut sorted: std::collections::BTreeMap<HostPath, (Vec<u8>, u32)> = files
        .iter()
        .map(|(name, content, mode)| (path(&format!("/etc/{name}")), (content.clone(), *mode)))
        .collect();
    let directories: std::collections::BTreeSet<HostPath> =
        sorted.keys().flat_map(HostPath::ancestors).collect();
    sorted.retain(|path, _| !directories.contains(path));
    let directories: std::collections::BTreeSet<HostPath> =
        sorted.keys().flat_map(HostPath::ancestors).collect();
    let index = Index {
        directories: directories
            .into_iter()
            .map(|path| NewDirectory {
                path,
                mode: 0o755,
                owner: me.clone(),
                group: me.clone(),
            })
            .collect(),
        files: sorted
            .iter()
            .map(|(path, (content, mode))| FileEntry {
                path: path.clone(),
                mode: *mode,
                owner: me.clone(),
                group: me.clone(),
                size: content.len() as u64,
                blake3: Digest::of(content),
            })
            .collect(),
    };
    let contents: Vec<Vec<u8>> = sorted.into_values().map(|(content, _)| content).collect();
    Bundle::new(index, contents.concat()).unwrap()
}

proptest! {
    #[test]
    fn a_bundle_reads_back_and_no_bytes_make_it_panic(files in small_index(), at: prop::sample::Index, byte: u8) {
        let bundle = bundle_of(&files);
        let mut bytes = bundle.to_bytes().unwrap();
        prop_assert_eq!(Bundle::parse(&bytes).unwrap(), bundle.clone());
        prop_assert!(Bundle::parse(bytes.get(..at.index(bytes.len())).unwrap()).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        // Another salt is another salt; nothing else goes unnoticed but what the index itself says.
        if let Ok(other) = Bundle::parse(&bytes) {
            prop_assert_eq!(other.index().bytes(), bundle.index().bytes());
        }
    }

    #[test]
    fn a_plan_judges_each_file_once_and_writes_none_beyond_its_list(
        files in small_index(),
        listed in prop::collection::vec("[a-c]{1,2}", 0..4),
        standing in prop::collection::vec(0_u8..5, 8),
    ) {
        let bundle = bundle_of(&files);
        let entries = listed.iter().map(|name| Entry { path: path(&format!("/etc/{name}")), need: Need::Optional });
        let list = FileList::new(entries.collect(), Vec::new(), &[]).unwrap();
        // A survey may say anything: also of files that the list does not name.
        let mut survey = Survey::default();
        for (file, standing) in bundle.index().files.iter().zip(standing) {
            let same = Local::File { mode: file.mode, owner: (7, 7), size: file.size, blake3: Some(file.blake3) };
            let (way, local) = match standing {
                0 => (Way::Clear, Local::Absent),
                1 => (Way::Clear, same),
                2 => (Way::Clear, Local::Symlink),
                3 => (Way::Symlink(path("/etc")), Local::Absent),
                _ => (Way::Open(path("/etc"), 0o777), Local::Absent),
            };
            survey.places.insert(file.path.clone(), Place { way, local });
        }
        let plan = plan(bundle.index(), &survey, &list, &Ids::knowing(&[("me", 7)]), &PlanRules::new(9));
        prop_assert_eq!(plan.steps.len() + plan.unchanged + plan.refused.len(), bundle.index().files.len());
        for step in &plan.steps {
            prop_assert!(list.covers(&step.path));
            prop_assert_eq!(step.mode & 0o7002, 0);
            let place = &survey.places[&step.path];
            prop_assert_eq!((&place.way, &place.local), (&Way::Clear, &Local::Absent));
        }
    }
}
