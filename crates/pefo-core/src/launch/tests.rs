use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::*;

fn shell(script: &str) -> Invocation {
    Invocation::new("sh").arg("-c").arg(script)
}

/// Runs `script` and says stop at the first line on its standard error.
fn cancelled_at_its_first_line(script: &str) -> (Error, Vec<String>) {
    let (cancel, lines) = (Cancel::new(), RefCell::new(Vec::new()));
    let hear = |line: &str| {
        cancel.cancel();
        lines.borrow_mut().push(line.to_owned());
    };
    let watch = Watch::new(&cancel, &hear);
    let outcome = DirectLauncher::default().run_watched(&shell(script), &watch);
    (outcome.unwrap_err(), lines.into_inner())
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

#[test]
fn a_child_sees_only_the_environment_it_was_given() {
    let invocation = Invocation::new("env").env("PGPASSFILE", "/x");
    let out = DirectLauncher::default()
        .run(&invocation)
        .unwrap()
        .success(&invocation)
        .unwrap();
    let mut names: Vec<String> = String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(|l| l.split('=').next().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["LC_ALL", "PATH", "PGPASSFILE"]);
}

#[test]
fn a_failed_child_shows_its_last_words() {
    let invocation = shell("echo one >&2; echo two >&2; exit 7");
    let error = DirectLauncher::default()
        .run(&invocation)
        .unwrap()
        .success(&invocation)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Child);
    assert!(
        error.to_string().ends_with("exit code 7: one | two"),
        "{error}"
    );
}

#[test]
fn a_large_input_does_not_deadlock() {
    let invocation = Invocation::new("cat").stdin(vec![b'x'; 1 << 20]);
    assert_eq!(
        DirectLauncher::default()
            .run(&invocation)
            .unwrap()
            .stdout
            .len(),
        1 << 20
    );
}

#[test]
fn a_child_that_does_not_read_its_input_is_no_failure() {
    let invocation = shell("exec 0<&-; echo done").stdin(vec![b'x'; 1 << 20]);
    let finished = DirectLauncher::default().run(&invocation).unwrap();
    assert_eq!(
        (finished.code, finished.stdout),
        (Some(0), b"done\n".to_vec())
    );
}

#[test]
fn a_child_that_closes_its_pipes_is_waited_for() {
    let invocation =
        shell("exec 0<&- 1<&- 2<&-; for n in 1 2 3 4 5 6 7 8 9; do sh -c :; done; exit 3");
    let finished = DirectLauncher::default().run(&invocation).unwrap();
    assert_eq!(finished.code, Some(3));
}

#[test]
fn a_missing_program_is_not_found() {
    let error = DirectLauncher::default()
        .run(&Invocation::new("no-such-program-here"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_watched_child_is_heard_line_by_line_and_none_of_it_is_kept() {
    let (cancel, lines) = (Cancel::new(), RefCell::new(Vec::new()));
    let hear = |line: &str| lines.borrow_mut().push(line.to_owned());
    let script = "echo out; echo one >&2; printf tw >&2; printf 'o\\n\\n' >&2; head -c 100000 /dev/zero >&2; echo >&2; printf last >&2; exit 7";
    let finished = DirectLauncher::default()
        .run_watched(&shell(script), &Watch::new(&cancel, &hear))
        .unwrap();
    assert_eq!(finished.code, Some(7));
    assert_eq!(
        (finished.stdout, finished.stderr),
        (b"out\n".to_vec(), Vec::new())
    );
    let lines = lines.into_inner();
    let [one, two, empty, long, last] = lines.as_slice() else {
        panic!("{} lines", lines.len())
    };
    assert_eq!(
        (one.as_str(), two.as_str(), empty.as_str(), last.as_str()),
        ("one", "two", "", "last")
    );
    assert_eq!(long.len(), 16 << 10, "a long line is cut");
}

#[test]
fn a_cancelled_child_is_told_to_end_and_may_clean_up() {
    let (error, lines) = cancelled_at_its_first_line(
        "trap 'echo cleaned >&2; exit 0' TERM; echo begun >&2; while :; do sh -c :; done",
    );
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(lines, ["begun", "cleaned"]);
}

#[test]
fn a_cancelled_child_that_does_not_end_is_killed_with_all_it_started() {
    let (error, lines) = cancelled_at_its_first_line(
        "trap '' TERM; sleep 600 & echo $! >&2; echo $$ >&2; while :; do wait; done",
    );
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(lines.len(), 2);
    // The kernel may be at it still.
    let deadline = Instant::now() + Duration::from_secs(20);
    while lines.iter().any(|pid| is_alive(pid)) {
        assert!(Instant::now() < deadline, "{lines:?} live on");
        std::thread::yield_now();
    }
}

#[test]
fn nothing_is_started_once_stop_was_said() {
    let cancel = Cancel::new();
    cancel.cancel();
    let watch = Watch::new(&cancel, &|_| ());
    let error = DirectLauncher::default()
        .run_watched(&Invocation::new("no-such-program-here"), &watch)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

/// Knows of no watching.
struct Plain;

impl Launcher for Plain {
    fn run(&self, invocation: &Invocation) -> Result<Finished> {
        DirectLauncher::default().run(invocation)
    }
}

#[test]
fn a_launcher_that_only_runs_is_heard_at_the_end() {
    let (cancel, lines) = (Cancel::new(), RefCell::new(Vec::new()));
    let hear = |line: &str| lines.borrow_mut().push(line.to_owned());
    Plain
        .run_watched(
            &shell("echo one >&2; echo two >&2"),
            &Watch::new(&cancel, &hear),
        )
        .unwrap();
    assert_eq!(lines.into_inner(), ["one", "two"]);
}
