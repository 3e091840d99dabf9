//! A push over a bad line goes on where it was at the next run, also where every byte of it is sealed; it is
//! no faster than it may be; and the receiver's own log tells who came.

use pefo_testkit::classifier::{ClassifierDouble, Options};
use pefo_testkit::line::{Direction, Line};
use pefo_testkit::masters::{self, Master};
use serde_json::{Value, json};

use crate::classifier::captured;
use crate::evidence::{edit_config, files};
use crate::pair::{A, B, Pair};

/// Bytes of a parameter that does not shrink.
const BYTES: usize = 3_000_000;

/// A group with a long parameter.
fn long_group() -> Value {
    let mut state = 1_u64;
    let noise: String = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'!' + (state >> 58) as u8)
    })
    .filter(|letter| letter.is_ascii_alphanumeric())
    .take(BYTES)
    .collect();
    json!({
        "name": "Long", "id": "1b500c43-5065-469b-91fc-37ed0e500e82",
        "parent": "00000000-0000-4000-8000-000000000000", "environment": "production",
        "environment_trumps": false, "classes": {"profile::long": {"text": noise}}, "variables": {},
    })
}

/// A pair whose active has a long export to push.
fn with_a_long_group() -> Option<(Master, Master, ClassifierDouble)> {
    let Pair { mut a, b, .. } = Pair::prepared()?;
    let mut groups = captured();
    groups.push(long_group());
    let double = ClassifierDouble::start(Options::default().allow(A).groups(groups));
    a.use_classifier(&double, "");
    masters::pair(&a, &b);
    Some((a, b, double))
}

/// Lets A reach B over a line that can be slowed and cut.
fn line_to(a: &mut Master, b: &Master) -> Line {
    let line = Line::to(("127.0.0.1", b.sshd().port()));
    a.configure(&format!(
        "\n[[peer]]\ncertname = \"{B}\"\nport = {}\n",
        line.port()
    ));
    line
}

#[test]
fn a_sealed_export_that_was_cut_goes_on_where_it_was_and_then_the_run_goes_on_as_usual() {
    let Some((mut a, b, _double)) = with_a_long_group() else {
        return;
    };
    let line = line_to(&mut a, &b);
    let passed = || line.passed(Direction::Forward);
    let kept = || files(&a.state().join("outgoing")).len();

    // No faster than the receiver takes it: what only sshd has seen when the line breaks is lost.
    line.set_rate(Some(1_500_000));
    line.break_after(Direction::Forward, 1_500_000);
    let cut = a.pefo(["nc", "push", "--json"]).exits(1).json();
    // All may be on its way when the line breaks; whether it arrived is then unknown.
    let kind = &cut["errors"][0]["kind"];
    assert!(*kind == "unreachable" || *kind == "unknown", "{cut:#}");
    assert!(kept() >= 2, "what was sealed is kept");

    // A line that is down holds nothing up for good either, and makes nothing anew.
    line.cut();
    a.pefo(["nc", "push", "--json"]).exits(1);
    line.mend();
    line.set_rate(None);
    let begun = passed();
    let run = a.pefo(["nc", "push", "--json"]).exits(0).json();
    assert_eq!(run["details"]["taken_up"], json!([B]), "{run:#}");
    assert_eq!(run["details"]["generation"], Value::Null, "{run:#}");
    let crossed = passed() - begun;
    assert!(crossed < BYTES as u64 - 1_000_000, "{crossed} bytes");
    assert_eq!(kept(), 0, "every peer has it");
    let spooled = b.spool().join("generations/nc");
    assert!(spooled.join("00000001-000000000001/manifest").is_file());
    assert!(!spooled.join("00000001-000000000002").exists());

    let again = a.pefo(["nc", "push", "--json"]).exits(0).json();
    assert_eq!(again["outcome"], "unchanged", "{again:#}");

    let log = std::fs::read_to_string(b.spool().join("receive.log")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() >= 4, "{log}");
    let published = lines.iter().find(|line| line["published"] != json!({}));
    let published = published.unwrap();
    assert_eq!(published["peer"], A);
    assert_eq!(published["asked"], "pefo receive");
    assert!(
        published["from"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1 ")
    );
    assert_eq!(published["published"]["nc"][0], 1);
}

#[test]
fn what_was_kept_in_an_older_reign_or_is_damaged_is_dropped_and_the_run_goes_on() {
    let Some((mut a, b, _double)) = with_a_long_group() else {
        return;
    };
    let line = line_to(&mut a, &b);
    line.break_after(Direction::Forward, 1_500_000);
    a.pefo(["nc", "push"]).exits(1);
    let outgoing = a.state().join("outgoing/nc");
    let document = files(&outgoing)
        .into_iter()
        .find(|path| path.ends_with("document"))
        .unwrap();
    std::fs::write(document, "torn").unwrap();
    edit_config(
        &a,
        "io_timeout = 20",
        "io_timeout = 20\ncompression = \"none\"",
    );
    let run = a.pefo(["nc", "push", "--json"]).exits(0).json();
    assert_eq!(run["details"]["sent"], json!([B]), "{run:#}");
    assert_eq!(run["details"]["generation"], "00000001-000000000002");
    assert_eq!(files(&a.state().join("outgoing")).len(), 0);
}

#[test]
fn a_push_is_no_faster_than_it_may_be() {
    let Some((a, _b, _double)) = with_a_long_group() else {
        return;
    };
    edit_config(
        &a,
        "io_timeout = 20",
        "io_timeout = 20\nbandwidth_limit = \"2 MB/s\"",
    );
    let begin = std::time::Instant::now();
    a.pefo(["nc", "push"]).exits(0);
    // 3 MB that do not shrink; a tenth of a second's worth may go at once.
    let least = std::time::Duration::from_millis(1_400);
    assert!(begin.elapsed() >= least, "{:?}", begin.elapsed());
}
