//! A sender that follows its tree by hints, over a line whose far end dies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::mirror::{Mirror, show, write_in};
use crate::world::{LONG, Run, noise};

struct Following {
    child: Child,
    hints: ChildStdin,
    said: Receiver<String>,
}

impl Following {
    fn start(mirror: &Mirror, source: &std::path::Path) -> Self {
        let mut command = mirror.push(source);
        let mut child = command
            .arg("--follow")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (hints, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self {
            child,
            hints,
            said: lines(out),
        }
    }

    /// The next thing it says it has done.
    #[track_caller]
    fn says(&self) -> serde_json::Value {
        let line = self.said.recv_timeout(LONG).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn hint(&mut self, path: &str) {
        writeln!(self.hints, "{path}").unwrap();
    }

    fn ends(mut self) -> Run {
        drop(self.hints);
        let mut err = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut err).unwrap();
        Run {
            status: self.child.wait().unwrap(),
            out: String::new(),
            err,
        }
    }
}

fn lines(out: ChildStdout) -> Receiver<String> {
    let (say, said) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if say.send(line).is_err() {
                return;
            }
        }
    });
    said
}

fn followed() -> Option<(Mirror, std::path::PathBuf)> {
    let mirror = pefo_testkit::skip::need(Mirror::new())?;
    let source = mirror.source("source");
    write_in(&source, "a", b"1");
    write_in(&source, "d/b", b"2");
    Some((mirror, source))
}

#[test]
fn hints_are_followed_one_by_one_and_the_session_ends_in_order() {
    let Some((mirror, source)) = followed() else {
        return;
    };
    let mut following = Following::start(&mirror, &source);
    assert_eq!(following.says()["written"], 2);
    write_in(&source, "a", b"22");
    following.hint("a");
    assert_eq!(following.says()["written"], 1);
    std::fs::remove_file(source.join("d/b")).unwrap();
    following.hint("d/b");
    assert_eq!(following.says()["deleted"], 1);
    // Told of before it is there, and again when it is.
    following.hint("d/c");
    following.says();
    write_in(&source, "d/c", &noise(1, 2_000_000));
    following.hint("d/c");
    assert_eq!(following.says()["written"], 1);
    following.ends().goes_through();
    mirror.is_as(&source);
}

#[test]
fn a_receiver_killed_between_two_hints_is_told_and_the_next_push_repairs() {
    let Some((mirror, source)) = followed() else {
        return;
    };
    let mut following = Following::start(&mirror, &source);
    following.says();
    assert!(mirror.world.kill_receiver());
    mirror.is_let_go();
    write_in(&source, "a", b"22");
    following.hint("a");
    let run = following.ends();
    run.is_told();
    mirror.goes_on(&source);
    mirror.is_as(&source);
}

#[test]
fn a_receiver_killed_in_a_hinted_transfer_is_told_and_the_next_push_takes_it_up() {
    let Some((mirror, source)) = followed() else {
        return;
    };
    let mut following = Following::start(&mirror, &source);
    following.says();
    let before = show(&mirror.dest());
    write_in(&source, "d/large", &noise(1, 3 << 20));
    mirror.world.line.set_rate(Some(1_000_000));
    following.hint("d/large");
    mirror.arrived(1_000_000);
    assert!(mirror.world.kill_receiver());
    mirror.world.line.set_rate(None);
    let run = following.ends();
    run.is_told();
    assert!(run.err.contains("the peer"), "{run:?}");
    mirror.is_let_go();
    assert!(show(&mirror.dest()) == before);

    let run = mirror.goes_on(&source);
    let done: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert!(done["bytes_saved"].as_u64().unwrap() >= 1_000_000, "{done}");
    assert!(done["bytes_sent"].as_u64().unwrap() < 2_200_000, "{done}");
    mirror.is_as(&source);
}
