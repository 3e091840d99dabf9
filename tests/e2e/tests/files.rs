//! The files that a spare needs and no other data set carries, between two masters.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use pefo_testkit::account::TransferAccount;
use pefo_testkit::masters::{self, Master};
use serde_json::Value;

use crate::evidence::{contents, edit_config, generations, newest_record, refused_as};
use crate::pair::Pair;
use crate::spool::{all_files, as_transfer, readable};

/// What stands in a key.
const SECRET: &str = "secret-5f0c21-of-the-console";

/// A pair with a few files. Both masters are on this one machine and have one root directory: A's files stand
/// there while it pushes, B's while it applies.
struct Files {
    pair: Pair,
    /// Where they stand on the host that has its turn.
    live: PathBuf,
    /// What A and B have there.
    kept: [PathBuf; 2],
}

impl Files {
    fn paired() -> Option<Self> {
        let mut pair = Pair::prepared()?;
        let home = pair.a.directory().to_owned();
        let live = home.join("live");
        let kept = [home.join("of-a"), home.join("of-b")];
        for dir in &kept {
            std::fs::create_dir(dir).unwrap();
        }
        for master in [&mut pair.a, &mut pair.b] {
            master.configure(&format!(
                "[files]\npreset = \"none\"\npaths = [\"{0}/keys\", \"{0}/hiera.yaml\"]\n\n",
                live.display()
            ));
        }
        masters::pair(&pair.a, &pair.b);
        let files = Self { pair, live, kept };
        files.write(0, "keys/keys.json", SECRET, 0o400);
        files.write(0, "keys/eyaml/private.pem", "eyaml", 0o640);
        files.write(0, "hiera.yaml", "version: 5", 0o644);
        files.write(1, "hiera.yaml", "version: 3", 0o644);
        Some(files)
    }

    fn write(&self, of: usize, name: &str, content: &str, mode: u32) {
        let path = self.kept[of].join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Has one of them in the place while `act` runs.
    fn turn<T>(&self, of: usize, act: impl FnOnce(&Master) -> T) -> T {
        std::fs::rename(&self.kept[of], &self.live).unwrap();
        let done = act([&self.pair.a, &self.pair.b][of]);
        std::fs::rename(&self.live, &self.kept[of]).unwrap();
        done
    }

    fn on_a<T>(&self, act: impl FnOnce(&Master) -> T) -> T {
        self.turn(0, act)
    }

    fn on_b<T>(&self, act: impl FnOnce(&Master) -> T) -> T {
        self.turn(1, act)
    }

    fn push(&self) -> Value {
        self.on_a(|a| a.pefo(["files", "push", "--json"]).exits(0).json())
    }

    fn apply(&self) {
        self.on_b(|b| b.pefo(["files", "apply"]).exits(0));
    }

    fn b(&self, name: &str) -> PathBuf {
        self.kept[1].join(name)
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_spare_gets_the_files_with_their_modes_and_keeps_what_they_replace() {
    let Some(files) = Files::paired() else {
        return;
    };
    files.write(1, "keys/own.pem", "the spare's own", 0o600);
    let sent = files.push();
    assert_eq!(sent["outcome"], "ok", "{sent:#}");
    let plan = files.on_b(|b| b.pefo(["files", "diff"]).exits(0).stdout);
    for line in [
        "new        ",
        "keys/keys.json (28 bytes, mode 0400, root:root)",
        "changed    ",
        "hiera.yaml (content, 10 to 10 bytes)",
        "keys/own.pem: kept",
    ] {
        assert!(plan.contains(line), "{line}\n{plan}");
    }
    assert!(
        !plan.contains(SECRET) && !plan.contains("version"),
        "{plan}"
    );
    assert_eq!(
        read(&files.b("hiera.yaml")),
        "version: 3",
        "a diff changes nothing"
    );

    let applied = files.on_b(|b| b.pefo(["files", "apply", "--json"]).exits(0).json());
    assert_eq!(contents(&files.kept[1]).len(), 4);
    assert_eq!(read(&files.b("keys/keys.json")), SECRET);
    assert_eq!(mode(&files.b("keys/keys.json")), 0o400);
    assert_eq!(mode(&files.b("keys/eyaml/private.pem")), 0o640);
    assert_eq!(read(&files.b("keys/own.pem")), "the spare's own");
    let kept = PathBuf::from(applied["details"]["changes"]["kept"].as_str().unwrap());
    let old = kept
        .join(files.live.strip_prefix("/").unwrap())
        .join("hiera.yaml");
    assert_eq!(read(&old), "version: 3");
    assert!(!applied.to_string().contains(SECRET));

    // Again: nothing to send, nothing to do.
    assert_eq!(files.push()["outcome"], "unchanged");
    assert_eq!(generations(&files.pair.b, "files").len(), 1);
    let again = files.on_b(|b| b.pefo(["files", "apply", "--json"]).exits(0).json());
    assert_eq!(again["outcome"], "unchanged", "{again:#}");
    files.on_b(|b| b.pefo(["files", "verify"]).exits(0));
    files
        .on_b(|b| b.pefo(["check"]))
        .stdout
        .lines()
        .find(|line| line.contains(" files "))
        .unwrap();
    let row = files.pair.b.pefo(["status", "--json"]).json()["details"]["datasets"].clone();
    let row = row
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["dataset"] == "files")
        .unwrap()
        .clone();
    assert_eq!(row["received"], row["applied"], "{row:#}");
}

#[test]
fn a_change_crosses_and_one_that_is_gone_on_the_active_is_kept_on_the_spare() {
    let Some(files) = Files::paired() else {
        return;
    };
    files.push();
    files.apply();
    files.write(0, "keys/keys.json", "another key", 0o440);
    std::fs::remove_file(files.kept[0].join("hiera.yaml")).unwrap();
    let diff = files.on_a(|a| a.pefo(["files", "diff"]).exits(0).stdout);
    assert!(
        diff.contains("content    ") && diff.contains("gone       "),
        "{diff}"
    );
    let sent = files.on_a(|a| a.pefo(["files", "push"]).exits(0).stdout);
    assert!(
        sent.contains("wanted and not there: ") && sent.contains("hiera.yaml"),
        "{sent}"
    );
    files.apply();
    assert_eq!(read(&files.b("keys/keys.json")), "another key");
    assert_eq!(mode(&files.b("keys/keys.json")), 0o440);
    assert_eq!(read(&files.b("hiera.yaml")), "version: 5");
    // The active's check names it, without failing.
    let check = files.on_a(|a| a.pefo(["check"]).stdout);
    let mut points = check.lines().skip(1);
    let point = points.find(|line| line.contains(" files ")).unwrap();
    assert!(
        point.contains("warning") && point.contains("wanted and not there"),
        "{check}"
    );
}

#[test]
fn the_transfer_account_finds_neither_contents_nor_paths() {
    let Some(files) = Files::paired() else {
        return;
    };
    files.push();
    let b = &files.pair.b;
    let holds = |path: &PathBuf, what: &str| {
        let bytes = std::fs::read(path).unwrap();
        bytes
            .windows(what.len())
            .any(|window| window == what.as_bytes())
    };
    for step in ["as it was sent", "once it is applied"] {
        let reached = readable(&all_files(b));
        let dir = b.spool().join("generations/files");
        let spooled: Vec<_> = reached
            .iter()
            .filter(|path| path.starts_with(&dir))
            .collect();
        assert_eq!(spooled.len(), 2, "manifest and bundle: {spooled:?}");
        for path in &reached {
            assert!(!holds(path, SECRET), "{} {step}", path.display());
        }
        for path in spooled {
            assert!(
                !holds(path, "keys.json") && !holds(path, "hiera"),
                "{}",
                path.display()
            );
        }
        files.apply();
    }
    let roots = all_files(b);
    assert!(
        roots.iter().any(|path| holds(path, SECRET)),
        "root's own store has it"
    );
}

#[test]
fn what_the_account_changes_in_the_spool_is_not_applied() {
    let Some(files) = Files::paired() else {
        return;
    };
    files.push();
    let newest = generations(&files.pair.b, "files").pop().unwrap();
    as_transfer(&format!("echo mine > {}/data/bundle", newest.display()));
    files.on_b(|b| refused_as(b, &["files", "apply"], "digest"));
    assert_eq!(read(&files.b("hiera.yaml")), "version: 3");
    assert_eq!(files.push()["outcome"], "ok", "it is sent again");
    files.apply();
    assert_eq!(read(&files.b("hiera.yaml")), "version: 5");
}

#[test]
fn a_spare_writes_nothing_that_its_own_configuration_does_not_list() {
    let Some(files) = Files::paired() else {
        return;
    };
    let keys = format!("\"{}/keys\", ", files.live.display());
    edit_config(&files.pair.b, &keys, "");
    files.push();
    let run = files.on_b(|b| b.pefo(["files", "apply", "--json"]).exits(4).json());
    assert_eq!(run["errors"][0]["rule"], "files-not-listed", "{run:#}");
    assert_eq!(
        read(&files.b("hiera.yaml")),
        "version: 5",
        "the others are written"
    );
    assert!(!files.b("keys").exists());
    files.on_b(|b| refused_as(b, &["files", "apply"], "files-not-listed"));
    // The active hears of it.
    files.push();
    let status = files.pair.a.pefo(["status"]).stdout;
    assert!(status.contains("files-not-listed"), "{status}");
    edit_config(&files.pair.b, "paths = [", &format!("paths = [{keys}"));
    files.apply();
    assert_eq!(read(&files.b("keys/keys.json")), SECRET);
}

#[test]
fn an_account_that_is_gone_on_the_spare_is_named_and_nothing_is_written_for_it() {
    let Some(files) = Files::paired() else {
        return;
    };
    let account = Gone::made(&format!("pefo-gone-{}", std::process::id()));
    let key = files.kept[0].join("keys/keys.json");
    std::os::unix::fs::chown(&key, Some(account.uid()), None).unwrap();
    files.push();
    let name = account.name.clone();
    drop(account);
    let run = files.on_b(|b| b.pefo(["files", "apply"]).exits(4));
    assert!(
        run.refused_by("files-owner") && run.stderr.contains(&format!("user {name}")),
        "{run:?}"
    );
    assert!(!files.b("keys/keys.json").exists());
    assert_eq!(read(&files.b("hiera.yaml")), "version: 5");
    // On the active it is a number without a name from now on.
    files.on_a(|a| refused_as(a, &["files", "push"], "files-owner"));
}

/// A system account that is there for a while.
struct Gone {
    name: String,
}

impl Gone {
    fn made(name: &str) -> Self {
        let made = Command::new("useradd")
            .args(["--system", "--no-create-home", name])
            .status();
        assert!(made.unwrap().success());
        Self {
            name: name.to_owned(),
        }
    }

    fn uid(&self) -> u32 {
        let output = Command::new("id")
            .args(["-u", &self.name])
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let gone = Command::new("userdel").arg(&self.name).status();
        assert!(gone.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_file_belongs_to_the_same_account_by_name() {
    let Some(files) = Files::paired() else {
        return;
    };
    let account = TransferAccount::ensure().unwrap();
    let key = files.kept[0].join("keys/keys.json");
    std::os::unix::fs::chown(&key, Some(account.uid()), Some(account.gid())).unwrap();
    files.push();
    files.apply();
    let meta = std::fs::metadata(files.b("keys/keys.json")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (account.uid(), account.gid()));
    std::os::unix::fs::chown(&key, Some(0), Some(0)).unwrap();
    assert_eq!(files.push()["outcome"], "ok", "an owner is a change");
    files.apply();
    assert_eq!(
        std::fs::metadata(files.b("keys/keys.json")).unwrap().uid(),
        0
    );
}

#[test]
fn symlinks_are_refused_on_both_sides_and_nothing_goes_through_them() {
    let Some(files) = Files::paired() else {
        return;
    };
    symlink("/etc/shadow", files.kept[0].join("keys/link")).unwrap();
    files.on_a(|a| refused_as(a, &["files", "push"], "files-symlink"));
    assert_eq!(generations(&files.pair.b, "files").len(), 0);
    let link = format!("exclude = [\"{}/keys/link\"]\npreset", files.live.display());
    edit_config(&files.pair.a, "preset", &link);
    files.push();
    let aside = files.kept[1].with_file_name("aside");
    std::fs::create_dir(&aside).unwrap();
    symlink(&aside, files.b("keys")).unwrap();
    let run = files.on_b(|b| b.pefo(["files", "apply"]).exits(4));
    assert!(run.refused_by("files-symlink"), "{run:?}");
    assert_eq!(crate::evidence::files(&aside), Vec::<PathBuf>::new());
}

#[test]
fn verify_names_each_file_that_differs_and_a_drill_opens_them() {
    let Some(files) = Files::paired() else {
        return;
    };
    files.pair.a.pefo(["ca", "push", "--seed"]).exits(0);
    files.pair.b.pefo(["ca", "apply"]).exits(0);
    files.push();
    let drill = files.on_b(|b| b.pefo(["drill"]).exits(0).stdout);
    assert!(
        drill.contains("files: ") && drill.contains("3 of 3 files would change"),
        "{drill}"
    );
    assert_eq!(
        read(&files.b("hiera.yaml")),
        "version: 3",
        "a drill writes nothing"
    );
    files.apply();
    files.write(1, "hiera.yaml", "edited by hand", 0o644);
    std::fs::remove_file(files.b("keys/keys.json")).unwrap();
    for command in [&["files", "verify"][..], &["verify"]] {
        let told = files.on_b(|b| b.pefo(command.iter().copied()).exits(2).stdout);
        assert!(told.contains("CRITICAL: 2 of 3 files differ"), "{told}");
        assert!(
            told.contains("hiera.yaml") && told.contains("keys.json"),
            "{told}"
        );
        assert!(!told.contains("eyaml/private.pem"), "{told}");
    }
    // And the check on the spare: one that is wanted is gone.
    std::fs::remove_file(files.b("hiera.yaml")).unwrap();
    let check = files.on_b(|b| b.pefo(["check"]).stdout);
    assert!(check.contains("wanted and not there"), "{check}");
    files.apply();
    files.on_b(|b| b.pefo(["files", "verify"]).exits(0));
}

#[test]
fn a_spare_is_promoted_with_the_files_it_had_received() {
    let Some(mut files) = Files::paired() else {
        return;
    };
    files.pair.a.pefo(["ca", "push", "--seed"]).exits(0);
    files.pair.b.pefo(["ca", "apply"]).exits(0);
    files.on_a(|a| a.pefo(["push"]).exits(0));
    assert_eq!(
        read(&files.b("hiera.yaml")),
        "version: 3",
        "not applied yet"
    );
    files.pair.a.stop_sshd();
    files.on_b(|b| b.pefo(["promote"]).exits(0));
    assert_eq!(read(&files.b("keys/keys.json")), SECRET);
    let record = newest_record(&files.pair.b, "promote");
    assert_eq!(record["outcome"], "ok", "{record:#}");
    // What it sends as the active is what it has now; the returning one compares before it takes it.
    files.pair.a.restart_sshd();
    files.write(0, "hiera.yaml", "written unseen", 0o644);
    files.pair.a.pefo(["demote", "--wait", "0"]).exits(4);
    files.on_b(|b| b.pefo(["push"]).exits(0));
    files.on_a(|a| a.pefo(["apply"]).exits(0));
    assert_eq!(read(&files.kept[0].join("hiera.yaml")), "version: 5");
    let text = files.pair.a.pefo(["demote", "--wait", "0"]).stdout;
    assert!(text.contains("hiera.yaml"), "{text}");
}

#[test]
fn what_cannot_be_configured_or_is_not_configured_is_said_at_once() {
    let Some(pair) = Pair::paired() else {
        return;
    };
    for command in [["files", "push"], ["push", "files"]] {
        let run = pair.a.pefo(command).exits(2);
        assert!(
            run.stderr.contains("no files are configured"),
            "{}",
            run.stderr
        );
    }
    for (paths, said) in [
        (pair.a.state().join("keys"), "is this program's own"),
        (pair.a.cadir().join("ca_key.pem"), "is the CA's directory"),
        (pair.a.directory().to_owned(), "is this program's own"),
    ] {
        let section = format!(
            "[files]\npreset = \"none\"\npaths = [\"{}\"]\n[ca]",
            paths.display()
        );
        edit_config(&pair.a, "[ca]", &section);
        let run = pair.a.pefo(["files", "push"]).exits(2);
        assert!(run.stderr.contains(said), "{}", run.stderr);
        edit_config(&pair.a, &section, "[ca]");
    }
    let section = "[files]\npreset = \"none\"\npaths = [\"/nowhere/x\"]\n[ca]";
    edit_config(&pair.a, "[ca]", section);
    let run = pair.a.pefo(["files", "push"]).exits(1);
    assert!(
        run.stderr.contains("none of the files is here"),
        "{}",
        run.stderr
    );
}
