//! `pefo report`, as it is read: in a terminal, by a program, and in a real browser on a phone and on a desk.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pefo_core::clock::Timestamp;
use pefo_core::disk::Disk;
use pefo_core::generation::DataSet;
use pefo_core::run::{Outcome, RunRecord};
use pefo_testkit::browser::{Browser, Scheme, page};
use pefo_testkit::masters::Master;
use pefo_testkit::skip;
use serde_json::{Value, json};

use crate::pair::Pair;

const MINUTE: u64 = 60;
const DAY: u64 = 86_400;
/// As somebody would send it who wants to be seen.
const RUDE: &str = "<script>document.title='broken'</script>\"'><img src=x onerror=alert(1)> averylongwordthatnobodycanbreak_averylongwordthatnobodycanbreak_averylongwordthatnobodycanbreak";

fn ago(seconds: u64) -> Timestamp {
    Timestamp::from(SystemTime::now() - Duration::from_secs(seconds))
}

/// A week of it: a lag that comes and goes, a night without samples, runs of all kinds, drills.
fn live_for_a_week(master: &Master) {
    let state = master.state();
    let history = state.join("history");
    std::fs::create_dir_all(&history).unwrap();
    let mut days: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    for minute in (1..7 * DAY / MINUTE).rev() {
        let seconds = minute * MINUTE;
        if (3 * DAY..3 * DAY + 6 * 3_600).contains(&seconds) {
            continue;
        }
        let lag = match seconds {
            86_400..95_400 => 95_400 - seconds,
            _ => 2 + minute % 9,
        };
        let at = ago(seconds);
        let row = json!({ "dataset": "ca", "lag_seconds": lag, "health": "OK" });
        let day = days.entry(at.to_string()[..10].to_owned()).or_default();
        writeln!(day, "{}", json!({ "at": at, "rows": [row] })).unwrap();
    }
    for (day, lines) in days {
        std::fs::write(history.join(format!("{day}.jsonl")), lines).unwrap();
    }
    let kinds = [
        (Outcome::Ok, None),
        (Outcome::Unchanged, None),
        (
            Outcome::Refused,
            Some(("crl-rollback", "CRL number 3 is older than 5")),
        ),
        (Outcome::Failed, Some(("", RUDE))),
        (
            Outcome::Partial,
            Some(("db-version", "puppet-a.lab: another product version")),
        ),
    ];
    for nth in 0..60 {
        let (outcome, error) = kinds[nth % kinds.len()];
        let began = ago(nth as u64 * 2_400 + 90);
        let record = RunRecord {
            format: 1,
            command: "ca apply".to_owned(),
            dataset: Some(if nth % 2 == 0 {
                DataSet::Ca
            } else {
                DataSet::Database("pe-rbac".to_owned())
            }),
            position: None,
            began,
            ended: began.plus(Duration::from_millis(nth as u64 * 371)),
            outcome,
            error: error.map(|(rule, reason)| {
                if rule.is_empty() {
                    reason.to_owned()
                } else {
                    format!("{reason} [{rule}]")
                }
            }),
            rule: error
                .map(|(rule, _)| rule.to_owned())
                .filter(|rule| !rule.is_empty()),
            accepted: BTreeSet::from_iter((nth % 7 == 0).then(|| "ca-max-deletes".to_owned())),
        };
        record.store(&Disk::new(), &state.join("runs")).unwrap();
    }
    let reports = state.join("reports");
    std::fs::create_dir_all(&reports).unwrap();
    for nth in 0..6_u64 {
        let (began, failed) = (ago(nth * DAY + 3_600), nth == 3);
        let errors = if failed {
            vec![json!({ "message": "db:pe-rbac: the table subjects has 3 rows fewer" })]
        } else {
            Vec::new()
        };
        let part = json!({
            "dataset": "ca", "outcome": if failed { "failed" } else { "ok" }, "generation": null, "made": null,
            "age_seconds": 900 + nth * 60, "lag_seconds": 8, "took_ms": 1_800, "details": null, "errors": errors,
        });
        let whole = json!({
            "format": 1, "certname": master.certname(), "epoch": 1, "began": began, "ended": began,
            "outcome": if failed { "partial" } else { "ok" }, "rto_ms": 1_800 + nth * 130, "rpo_seconds": 900 + nth * 60,
            "datasets": [part],
        });
        std::fs::write(
            reports.join(format!("drill-{}.json", 5 - nth)),
            whole.to_string(),
        )
        .unwrap();
    }
}

fn written(master: &Master) -> PathBuf {
    let path = master.directory().join("report.html");
    master
        .pefo(["report", "--html", path.to_str().unwrap()])
        .exits(0);
    path
}

/// What is wrong with a page in any of the ways in which it is read.
fn wrong_with(browser: &Browser, path: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for (width, height) in [(360, 740), (768, 1_024), (1_280, 800)] {
        for scheme in [Scheme::Light, Scheme::Dark] {
            browser.look(width, height, scheme);
            browser.open(path);
            let found = [
                page::cut_off(browser),
                page::pale(browser),
                browser.complaints(),
            ]
            .concat();
            wrong.extend(
                found
                    .into_iter()
                    .map(|what| format!("{width} {scheme:?}: {what}")),
            );
        }
    }
    wrong
}

#[test]
fn a_report_is_read_in_a_browser_on_a_phone_and_on_a_desk_in_the_dark_and_in_the_light() {
    let Some(browser) = skip::need(Browser::start()) else {
        return;
    };
    let Some(pair) = Pair::paired() else { return };
    // Nothing has happened yet.
    for master in [&pair.a, &pair.b] {
        assert_eq!(wrong_with(&browser, &written(master)), Vec::<String>::new());
    }
    let pair = pair.seed();
    live_for_a_week(&pair.b);
    pair.b.pefo(["pause", "--reason", RUDE]).exits(0);
    let path = written(&pair.b);
    assert_eq!(wrong_with(&browser, &path), Vec::<String>::new());
    assert_eq!(
        wrong_with(&browser, &written(&pair.a)),
        Vec::<String>::new()
    );

    browser.open(&path);
    let seen = browser.run(
        "const count = (what) => document.querySelectorAll(what).length;
         return { title: document.title, scripts: count('script, img, link, iframe, [onerror]'), lines: count('path.line'),
                  gaps: count('rect.gap'), limits: count('line.limit'), dots: count('path.dot'), named: count('svg > title') ,
                  rows: count('tbody tr'), text: document.body.innerText };",
    );
    assert_eq!(seen["title"], "puppet-b.lab: WARNING, pefo");
    assert_eq!(seen["scripts"], 0);
    // A line on either side of the night without samples, thresholds, and six drills in two pictures.
    assert_eq!(
        (&seen["lines"], &seen["gaps"], &seen["limits"]),
        (&json!(2), &json!(1), &json!(2))
    );
    assert_eq!((&seen["dots"], &seen["named"]), (&json!(12), &json!(3)));
    let text = seen["text"].as_str().unwrap();
    for told in [
        "crl-rollback",
        "docs/refusals.md",
        "2 h 30 min",
        "rows fewer",
        "ca-max-deletes",
        RUDE,
    ] {
        assert!(text.contains(told), "{told} is not told:\n{text}");
    }
    // The checks do find what is wrong.
    browser.run("document.body.insertAdjacentHTML('beforeend', '<p style=\"width:3000px;color:#999;background:#aaa\">wide and pale</p>');");
    assert!(!page::cut_off(&browser).is_empty() && page::pale(&browser).len() == 1);
    browser.run("console.error('said')");
    assert_eq!(browser.complaints().len(), 1);
}

#[test]
fn a_report_is_for_root_replaces_only_a_report_and_is_told_in_short_and_to_programs_too() {
    let Some(pair) = Pair::seeded() else { return };
    live_for_a_week(&pair.b);
    let b = &pair.b;
    let path = written(b);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    written(b);
    let told = b.pefo(["report"]).exits(0).stdout;
    assert!(
        told.starts_with("puppet-b.lab: OK, passive in epoch 1; told of "),
        "{told}"
    );
    for part in ["at worst 2 h 30 min", "crl-rollback", "RTO 1.80 s"] {
        assert!(told.contains(part), "{told}");
    }
    let json: Value = b
        .pefo(["report", "--json", "--since", "2d"])
        .exits(0)
        .json();
    let details = &json["details"];
    assert_eq!(details["drills"].as_array().unwrap().len(), 2);
    let refusal = &details["refusals"][0];
    assert_eq!(
        (&refusal["rule"], &refusal["times"]),
        (&json!("crl-rollback"), &json!(6))
    );

    let other = b.directory().join("notes.html");
    std::fs::write(&other, "<p>mine</p>").unwrap();
    for target in [
        other.to_str().unwrap(),
        "/dev/null",
        b.directory().to_str().unwrap(),
    ] {
        let run = b.pefo(["report", "--html", target]).exits(3);
        assert!(run.refused_by("report-foreign"), "{run:?}");
    }
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "<p>mine</p>");
    b.pefo(["report", "--since", "week"]).exits(2);
}
