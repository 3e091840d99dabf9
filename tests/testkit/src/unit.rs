//! A service of systemd's, run as its unit says where systemd does not run.
//!
//! A [`Unit`] is read from its file. [`Unit::command`] starts what its `ExecStart` says under those of its
//! restrictions that unshare(1), mount(8) and setpriv(1) can impose: a read-only file system but for
//! `ReadWritePaths`, private `/tmp` and `/dev`, closed home directories, hidden processes, no new privileges, a
//! capability bounding set, a umask. What they can't is an explicit list ([`NOT_IMPOSED`]); a setting that is in neither is
//! a failure, so that no restriction is believed to be tested that is not.

use std::path::Path;
use std::process::Command;

use crate::skip::{self, Skip};

/// Restrictions that are not imposed here, and why nothing of them shows.
pub const NOT_IMPOSED: [(&str, &str); 15] = [
    ("SystemCallFilter", "needs a loaded seccomp program"),
    ("SystemCallErrorNumber", "as SystemCallFilter"),
    ("SystemCallArchitectures", "as SystemCallFilter"),
    ("RestrictAddressFamilies", "as SystemCallFilter"),
    ("RestrictNamespaces", "as SystemCallFilter"),
    ("RestrictRealtime", "as SystemCallFilter"),
    ("LockPersonality", "as SystemCallFilter"),
    ("MemoryDenyWriteExecute", "as SystemCallFilter"),
    (
        "ProtectClock",
        "the bounding set has no CAP_SYS_TIME; else as SystemCallFilter",
    ),
    (
        "ProtectHostname",
        "the bounding set has no CAP_SYS_ADMIN; else as SystemCallFilter",
    ),
    (
        "ProtectKernelLogs",
        "the bounding set has no CAP_SYSLOG; else as SystemCallFilter",
    ),
    (
        "ProtectKernelModules",
        "the bounding set has no CAP_SYS_MODULE; else as SystemCallFilter",
    ),
    ("KeyringMode", "no program here uses the kernel's keyring"),
    ("PrivateMounts", "every run has its own mounts"),
    ("ProtectControlGroups", "the mounts of /sys are read-only"),
];

/// What says how a service is started, watched and stopped: the caller's part here.
const MANAGED: [&str; 11] = [
    "Type",
    "NotifyAccess",
    "WatchdogSec",
    "Restart",
    "RestartSec",
    "RestartPreventExitStatus",
    "KillMode",
    "TimeoutStopSec",
    "TimeoutStartSec",
    "RemainAfterExit",
    "ExecStart",
];

const IMPOSED: [&str; 11] = [
    "UMask",
    "NoNewPrivileges",
    "ProtectSystem",
    "ReadWritePaths",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "ProtectProc",
    "ProcSubset",
    "ProtectKernelTunables",
    "CapabilityBoundingSet",
];

/// A service unit.
#[derive(Debug, Clone)]
pub struct Unit {
    name: String,
    settings: Vec<(String, String)>,
}

impl Unit {
    /// Reads the `[Service]` section of a unit's file.
    ///
    /// # Panics
    /// Where it cannot be read, or has a setting that is neither imposed nor known not to be.
    pub fn read(path: &Path) -> Self {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => panic!("read {}: {error}", path.display()),
        };
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        Self::parse(&name.unwrap_or_default(), &text)
    }

    /// As [`Unit::read`], of a text.
    ///
    /// # Panics
    /// As [`Unit::read`].
    pub fn parse(name: &str, text: &str) -> Self {
        let mut section = "";
        let mut settings = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') {
                section = line;
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                panic!("{name}: {line:?} is no setting");
            };
            if section != "[Service]" {
                continue;
            }
            let is_known = IMPOSED.contains(&key)
                || MANAGED.contains(&key)
                || NOT_IMPOSED.iter().any(|(known, _)| *known == key);
            assert!(
                is_known,
                "{name}: {key} is neither imposed nor known not to be"
            );
            settings.push((key.to_owned(), value.to_owned()));
        }
        Self {
            name: name.to_owned(),
            settings,
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last value of a setting.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values(key).pop()
    }

    fn values(&self, key: &str) -> Vec<&str> {
        let mine = self.settings.iter().filter(|(name, _)| name == key);
        mine.map(|(_, value)| value.as_str()).collect()
    }

    fn is(&self, key: &str, wanted: &str) -> bool {
        self.value(key) == Some(wanted)
    }

    /// What `ExecStart` starts, word by word.
    ///
    /// # Panics
    /// Where there is none.
    pub fn words(&self) -> Vec<String> {
        match self.value("ExecStart") {
            Some(line) => words(&line.replace("$$", "$")),
            None => panic!("{} has no ExecStart", self.name),
        }
    }

    /// What `ExecStart` starts, under the unit's restrictions.
    ///
    /// # Errors
    /// A [`Skip`] where this is not root, or may not make mount namespaces.
    pub fn command(&self) -> Result<Command, Skip> {
        self.confine(&self.words())
    }

    /// Another program, under the unit's restrictions.
    ///
    /// # Errors
    /// As [`Unit::command`].
    pub fn confine(&self, program: &[String]) -> Result<Command, Skip> {
        skip::require_root("a unit's restrictions")?;
        let may = Command::new("unshare").args(["--mount", "true"]).output();
        skip::require(
            may.is_ok_and(|output| output.status.success()),
            "no-mount-namespaces",
            "unshare --mount is not allowed here",
        )?;
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "--",
                "/bin/sh",
                "-euc",
            ])
            .arg(self.script())
            .arg("unit")
            .args(program)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            );
        Ok(command)
    }

    fn script(&self) -> String {
        let mut script = String::new();
        let mut say = |line: &str| {
            script.push_str(line);
            script.push('\n');
        };
        if self.is("ProtectSystem", "strict") {
            // The kernel's own file systems are others' business, as systemd.exec(5) says.
            say(
                "findmnt -rno TARGET | while read -r at; do case $at in /proc*|/sys*|/dev*) ;; \
                 *) mount -o remount,bind,ro \"$(printf %b \"$at\")\" 2>/dev/null || : ;; esac; done",
            );
        }
        for path in self.values("ReadWritePaths").into_iter().flat_map(words) {
            let (may_lack, path) = match path.strip_prefix('-') {
                Some(path) => (true, path.to_owned()),
                None => (false, path),
            };
            let path = quoted(&path);
            if may_lack {
                say(&format!("if [ -e {path} ]; then"));
            }
            say(&format!(
                "mount --bind {path} {path} && mount -o remount,bind,rw {path}"
            ));
            if may_lack {
                say("fi");
            }
        }
        if self.is("PrivateDevices", "yes") {
            say(
                "dev=$(umask 077; mktemp -d -p /dev pefo-dev.XXXXXX); mount -t tmpfs -o mode=755 tmpfs $dev\n\
                 for at in null zero full random urandom; do : > $dev/$at; mount --bind /dev/$at $dev/$at; done\n\
                 mkdir $dev/shm; mount -t tmpfs tmpfs $dev/shm\n\
                 mount --rbind $dev /dev",
            );
        }
        match self.value("ProtectHome") {
            Some("yes") => say(
                "for at in /home /root /run/user; do [ ! -d $at ] || mount -t tmpfs -o ro,mode=000 tmpfs $at; done",
            ),
            // ProtectSystem has done it.
            Some("read-only") | None => {}
            Some(other) => panic!("{}: ProtectHome={other}", self.name),
        }
        if self.is("PrivateTmp", "yes") {
            say("for at in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $at; done");
        }
        if self.is("ProtectProc", "invisible") {
            let subset = match self.is("ProcSubset", "pid") {
                true => ",subset=pid",
                false => "",
            };
            say(&format!(
                "mount -t proc -o hidepid=invisible{subset} proc /proc"
            ));
        }
        if self.is("ProtectKernelTunables", "yes") {
            say(
                "[ ! -d /proc/sys ] || { mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; }\n\
                 findmnt -rno TARGET | grep ^/sys | while read -r at; do mount -o remount,bind,ro \"$at\"; done",
            );
        }
        if let Some(umask) = self.value("UMask") {
            say(&format!("umask {umask}"));
        }
        let mut run = String::from("exec setpriv");
        if self.is("NoNewPrivileges", "yes") {
            run.push_str(" --no-new-privs");
        }
        if let Some(capabilities) = self.value("CapabilityBoundingSet") {
            let set = capabilities.split_whitespace().map(|name| {
                let name = name.strip_prefix("CAP_").unwrap_or(name);
                format!(",+{}", name.to_lowercase())
            });
            run.push_str(&format!(
                " --inh-caps=-all --bounding-set=-all{}",
                set.collect::<String>()
            ));
        }
        say(&format!("{run} -- \"$@\""));
        script
    }
}

/// The words of a unit's value, without its quotes, escapes and doubled per cent signs.
fn words(value: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, false);
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quote = !quote;
                word.get_or_insert_default();
            }
            ' ' if !quote => words.extend(word.take()),
            '\\' if quote => word.get_or_insert_default().extend(letters.next()),
            '%' => {
                assert_eq!(letters.next(), Some('%'), "a specifier in {value:?}");
                word.get_or_insert_default().push('%');
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    assert!(!quote, "an open quote in {value:?}");
    words.extend(word);
    words
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place;

    /// What a confined shell says, and whether it ended with 0.
    fn told(unit: &Unit, script: &str) -> (bool, String) {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        let output = unit.confine(&words).unwrap().output().unwrap();
        let all = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&all).into_owned(),
        )
    }

    #[test]
    fn what_a_unit_forbids_cannot_be_done() {
        let (open, closed) = (place::directory("unit open"), place::directory("closed"));
        let (open, closed) = (open.path().display(), closed.path().display());
        let unit = Unit::parse(
            "x.service",
            &format!(
                "[Service]\nExecStart=/bin/true\nProtectSystem=strict\nReadWritePaths=\"-{open}\"\n\
                 ReadWritePaths=-/no/such/place\nPrivateTmp=yes\nPrivateDevices=yes\nProtectHome=yes\n\
                 NoNewPrivileges=yes\nCapabilityBoundingSet=CAP_CHOWN\nUMask=0027\nProtectProc=invisible\n\
                 ProcSubset=pid\nProtectKernelTunables=yes\n"
            ),
        );
        if skip::need(unit.command()).is_none() {
            return;
        }
        let can = |script: &str| {
            let (can, said) = told(&unit, script);
            assert!(can, "{script}: {said}");
        };
        let cannot = |script: &str| {
            let (can, said) = told(&unit, script);
            assert!(!can, "{script}: {said}");
        };
        can(&format!(
            "echo x > '{open}/x' && [ $(stat -c %a '{open}/x') = 640 ]"
        ));
        cannot(&format!("echo x > '{closed}/x'"));
        cannot("echo x > /etc/pefo-test-of-a-unit");
        can("echo x > /tmp/x && [ $(ls /tmp | wc -l) = 1 ]");
        can("[ -z \"$(ls /root /home 2>/dev/null)\" ]");
        can("echo x > /dev/null && [ ! -e /dev/kmsg ]");
        cannot("mount -t tmpfs tmpfs /tmp");
        can("grep -q '^NoNewPrivs:.1$' /proc/self/status");
        can("[ $(sed -n 's/^CapBnd:.//p' /proc/self/status) = 0000000000000001 ]");
        can("[ $(sed -n 's/^CapEff:.//p' /proc/self/status) = 0000000000000001 ]");
        can("[ ! -e /proc/sys ] || ! echo 1 > /proc/sys/kernel/sysrq");
    }

    #[test]
    #[should_panic(expected = "IPAddressDeny is neither imposed nor known not to be")]
    fn a_restriction_that_nobody_looks_after_is_a_failure() {
        Unit::parse("x.service", "[Service]\nIPAddressDeny=any\n");
    }

    #[test]
    fn words_are_read_as_systemd_reads_them() {
        assert_eq!(words("/bin/x  --y z"), ["/bin/x", "--y", "z"]);
        assert_eq!(
            words(r#"-"/a b" "c\"d\\e" 100%%"#),
            ["-/a b", r#"c"d\e"#, "100%"]
        );
    }
}
