//! Disks that take nothing more: told with a hint, nothing half-written where a reader could take it for
//! whole, and the next run succeeds.

use std::path::{Path, PathBuf};
use std::process::Command;

use pefo_testkit::skip;

use crate::database::{Databases, live};
use crate::evidence::{contents, fails_as, files, generations, refused_as, told_with_hint, tree};
use crate::pair::Pair;
use crate::spool::Everything;

#[test]
fn a_spool_that_cannot_be_written_is_told_on_the_active_and_the_next_push_succeeds() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.ca.sign("node1.lab").unwrap();
    let dir = pair.b.spool().join("generations/ca");
    let chmod = |mode: &str| {
        assert!(
            Command::new("chmod")
                .arg(mode)
                .arg(&dir)
                .status()
                .unwrap()
                .success()
        )
    };
    let before = contents(&pair.b.spool());
    chmod("0500");
    let run = pair.a.pefo(["ca", "push"]).exits(1);
    told_with_hint(&run);
    assert!(run.stderr.contains("Permission denied"), "{}", run.stderr);
    chmod("0700");
    assert_eq!(contents(&pair.b.spool()), before);
    pair.sync();
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());

    // No spool at all.
    let away = pair.b.directory().join("away");
    std::fs::rename(pair.b.spool(), &away).unwrap();
    pair.ca.sign("node2.lab").unwrap();
    let run = pair.a.pefo(["ca", "push"]);
    assert_ne!(run.code, 0);
    told_with_hint(&run);
    pair.b.pefo(["check"]).exits(2);
    std::fs::rename(&away, pair.b.spool()).unwrap();
    pair.sync();
    assert!(pair.b.cadir().join("signed/node2.lab.pem").exists());
}

/// A small file system mounted on a directory, unmounted on drop.
pub(crate) struct Small {
    at: PathBuf,
}

impl Small {
    /// Hides what `at` holds until it is dropped; owner and mode stay.
    pub(crate) fn mount(at: &Path, kib: u32) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(at).unwrap();
        let options = format!(
            "size={kib}k,uid={},gid={},mode={:o}",
            meta.uid(),
            meta.gid(),
            meta.mode() & 0o7777
        );
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .output()
            .unwrap();
        let why = format!(
            "a small file system can not be mounted here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        skip::unless(output.status.success(), "needs-mount", &why)
            .then(|| Self { at: at.to_owned() })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(&self.at).status();
        assert!(
            std::thread::panicking() || done.is_ok_and(|status| status.success()),
            "umount {}",
            self.at.display()
        );
    }
}

#[test]
fn a_full_disk_under_the_spool_leaves_the_old_generation_whole() {
    let Some(mut pair) = Pair::paired() else {
        return;
    };
    // 64 MiB stay free by default; so much and a little more.
    let Some(_small) = Small::mount(&pair.b.spool(), 70 * 1024) else {
        return;
    };
    pair.a.pefo(["ca", "push", "--seed"]).exits(0);
    pair.b.pefo(["ca", "apply"]).exits(0);
    pair.ca.sign("node1.lab").unwrap();
    let filler = pair.b.spool().join("filler");
    std::fs::write(&filler, vec![0; 6 << 20]).unwrap();
    let before = contents(&pair.b.spool());
    let run = pair.a.pefo(["ca", "push"]).exits(3);
    assert!(run.refused_by("spool-full"), "{}", run.stderr);
    told_with_hint(&run);
    assert!(
        contents(&pair.b.spool()) == before,
        "something half-written is left"
    );
    pair.b.pefo(["ca", "apply"]).exits(0);
    std::fs::remove_file(&filler).unwrap();
    pair.sync();
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
}

#[test]
fn a_full_disk_under_roots_own_files_fails_either_side_and_the_next_run_succeeds() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    for number in 0..30 {
        pair.ca.sign(&format!("node{number}.lab")).unwrap();
    }
    pair.a.pefo(["ca", "push"]).exits(0);
    let before = tree(&pair.b.cadir());
    let store = pair.b.state().join("store/ca");
    {
        let Some(_small) = Small::mount(&store, 32) else {
            return;
        };
        let error = fails_as(&pair.b, &["ca", "apply"], 1, "io");
        assert!(
            error["message"].as_str().unwrap().contains("No space left"),
            "{error:#}"
        );
        assert!(
            tree(&store).is_empty(),
            "something half-written is left: {:?}",
            tree(&store)
        );
    }
    assert!(tree(&pair.b.cadir()) == before);
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert!(pair.b.cadir().join("signed/node29.lab.pem").exists());
}

#[test]
fn a_full_disk_under_a_dump_fails_the_push_and_nothing_is_sent() {
    let Some(all) = Everything::sent() else {
        return;
    };
    let Everything { a, b, .. } = &all;
    let before = generations(b, "db-pe-rbac");
    {
        let Some(_small) = Small::mount(&a.state().join("work"), 512) else {
            return;
        };
        // Past the look at how much there is, which may be wrong.
        let push = ["db", "push", "--force", "--accept", "db-dump-space"];
        let error = fails_as(a, &push, 1, "child");
        assert!(
            error["message"].as_str().unwrap().contains("No space left"),
            "{error:#}"
        );
        assert!(files(&a.state().join("work")).is_empty());
    }
    assert_eq!(generations(b, "db-pe-rbac"), before);
    a.pefo(["db", "push", "--force"]).exits(0);
    b.pefo(["db", "restore"]).exits(0);
}

#[test]
fn a_full_disk_under_the_passives_server_is_foreseen_and_one_that_fills_up_leaves_the_live_database()
 {
    let Some(databases) = Databases::in_step() else {
        return;
    };
    let Databases { a, b, on_b, .. } = &databases;
    // Room for the live database, and for no second one.
    let dir = on_b.data_dir().with_file_name("small");
    std::fs::create_dir(&dir).unwrap();
    if let Some((uid, gid)) = on_b.server_ids() {
        std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    let size = "select pg_database_size('pe-rbac') / 1024";
    let kib: u32 = on_b.query_text("postgres", size).unwrap().parse().unwrap();
    let Some(_small) = Small::mount(&dir, kib + kib / 2) else {
        return;
    };
    let tablespace = format!("create tablespace small location '{}'", dir.display());
    on_b.sql("postgres", &tablespace).unwrap();
    let place = |name: &str| {
        let moving = format!("alter database \"pe-rbac\" set tablespace {name}");
        on_b.sql("postgres", &moving).unwrap();
    };
    place("small");
    databases.say_on_a("too much");
    a.pefo(["db", "push"]).exits(0);
    let before = live(on_b);
    refused_as(b, &["db", "restore"], "db-space");
    assert_eq!(live(on_b), before);
    let error = fails_as(b, &["db", "restore", "--accept", "db-space"], 1, "child");
    let message = error["message"].as_str().unwrap();
    let is_full = ["No space left", "free disk space"];
    assert!(
        is_full.iter().any(|said| message.contains(said)),
        "{error:#}"
    );
    assert_eq!(live(on_b), before);
    let left = on_b.query_text(
        "postgres",
        "select count(*) from pg_database where datname like '%shadow'",
    );
    assert_eq!(left.unwrap(), "0");
    place("pg_default");
    b.pefo(["db", "restore"]).exits(0);
    assert!(live(on_b).1.contains("too much"));
}
