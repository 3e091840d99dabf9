use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::overview::tests::{ailing, host, overview, row};

#[test]
fn prometheus_reads_it_as_it_stands() {
    let mut ca = ailing(row("ca", Some("b.lab")), "failing", Health::Warning);
    ca.failing_since = Some(ca.last_success.unwrap().plus(Duration::from_secs(1)));
    ca.refused = vec!["crl-shrink".to_owned()];
    ca.skew_seconds = Some(-40);
    let text = text(&overview(vec![ca, row("db:pe-rbac", Some("b.lab"))]));
    let told = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!(told, @r#"
    # HELP pefo_build_info Which pefo wrote this.
    # TYPE pefo_build_info gauge
    pefo_build_info{version="VERSION"} 1
    # HELP pefo_up Whether this host's state can be read.
    # TYPE pefo_up gauge
    pefo_up 1
    # HELP pefo_role Which role this host has.
    # TYPE pefo_role gauge
    pefo_role{role="active"} 1
    pefo_role{role="passive"} 0
    # HELP pefo_epoch The epoch of the reign that this host knows of.
    # TYPE pefo_epoch gauge
    pefo_epoch 3
    # HELP pefo_health How this host does, as a monitoring plugin's exit code: 0 ok, 1 warning, 2 critical, 3 unknown.
    # TYPE pefo_health gauge
    pefo_health 1
    # HELP pefo_gathered_timestamp_seconds When this was gathered.
    # TYPE pefo_gathered_timestamp_seconds gauge
    pefo_gathered_timestamp_seconds 1763812800
    # HELP pefo_fenced Whether this host's reign has ended, or is claimed by another.
    # TYPE pefo_fenced gauge
    pefo_fenced 0
    # HELP pefo_changing Whether a change of this host's role has begun and is not ended.
    # TYPE pefo_changing gauge
    pefo_changing 0
    # HELP pefo_paused Whether this host rests by the operator's word.
    # TYPE pefo_paused gauge
    pefo_paused 0
    # HELP pefo_unfinished How many things were begun and are not ended.
    # TYPE pefo_unfinished gauge
    pefo_unfinished 0
    # HELP pefo_watch_missing Whether the CA was watched and is not any more.
    # TYPE pefo_watch_missing gauge
    pefo_watch_missing 0
    # HELP pefo_dataset_health How the data set does, as a monitoring plugin's exit code.
    # TYPE pefo_dataset_health gauge
    pefo_dataset_health{dataset="ca",peer="b.lab"} 1
    pefo_dataset_health{dataset="db:pe-rbac",peer="b.lab"} 0
    # HELP pefo_caught_up_timestamp_seconds When the passive last proved that it had applied everything.
    # TYPE pefo_caught_up_timestamp_seconds gauge
    pefo_caught_up_timestamp_seconds{dataset="ca",peer="b.lab"} 1763812793
    pefo_caught_up_timestamp_seconds{dataset="db:pe-rbac",peer="b.lab"} 1763812793
    # HELP pefo_lag_seconds How long ago that was when this was gathered.
    # TYPE pefo_lag_seconds gauge
    pefo_lag_seconds{dataset="ca",peer="b.lab"} 7
    pefo_lag_seconds{dataset="db:pe-rbac",peer="b.lab"} 7
    # HELP pefo_lag_warn_seconds From when on a lag is a warning.
    # TYPE pefo_lag_warn_seconds gauge
    pefo_lag_warn_seconds{dataset="ca",peer="b.lab"} 300
    pefo_lag_warn_seconds{dataset="db:pe-rbac",peer="b.lab"} 300
    # HELP pefo_lag_critical_seconds From when on a lag is critical.
    # TYPE pefo_lag_critical_seconds gauge
    pefo_lag_critical_seconds{dataset="ca",peer="b.lab"} 900
    pefo_lag_critical_seconds{dataset="db:pe-rbac",peer="b.lab"} 900
    # HELP pefo_last_success_timestamp_seconds When a run about the data set ended well last.
    # TYPE pefo_last_success_timestamp_seconds gauge
    pefo_last_success_timestamp_seconds{dataset="ca",peer="b.lab"} 1763812795
    pefo_last_success_timestamp_seconds{dataset="db:pe-rbac",peer="b.lab"} 1763812795
    # HELP pefo_failing Whether the newest run about the data set failed.
    # TYPE pefo_failing gauge
    pefo_failing{dataset="ca",peer="b.lab"} 1
    pefo_failing{dataset="db:pe-rbac",peer="b.lab"} 0
    # HELP pefo_run_duration_seconds How long the last run took that ended well.
    # TYPE pefo_run_duration_seconds gauge
    pefo_run_duration_seconds{dataset="ca",peer="b.lab"} 0.12
    pefo_run_duration_seconds{dataset="db:pe-rbac",peer="b.lab"} 0.12
    # HELP pefo_generation_bytes How large the newest full generation is.
    # TYPE pefo_generation_bytes gauge
    pefo_generation_bytes{dataset="ca",peer="b.lab"} 4096
    pefo_generation_bytes{dataset="db:pe-rbac",peer="b.lab"} 4096
    # HELP pefo_refusals How many rules hold something back now.
    # TYPE pefo_refusals gauge
    pefo_refusals{dataset="ca",peer="b.lab"} 1
    pefo_refusals{dataset="db:pe-rbac",peer="b.lab"} 0
    # HELP pefo_clock_skew_seconds How far the peer's clock is ahead of this host's, at least; 0 where nothing tells that they differ.
    # TYPE pefo_clock_skew_seconds gauge
    pefo_clock_skew_seconds{dataset="ca",peer="b.lab"} -40
    pefo_clock_skew_seconds{dataset="db:pe-rbac",peer="b.lab"} 0
    # HELP pefo_next_due_timestamp_seconds When the data set is scheduled next.
    # TYPE pefo_next_due_timestamp_seconds gauge
    pefo_next_due_timestamp_seconds{dataset="ca",peer="b.lab"} 1763812860
    pefo_next_due_timestamp_seconds{dataset="db:pe-rbac",peer="b.lab"} 1763812860
    "#);
}

/// A name, its labels, its value.
type Read = (String, Vec<(String, String)>, f64);

/// The samples of a text: each name with its labels, as Prometheus's documentation has the grammar.
fn parsed(text: &str) -> Vec<Read> {
    let mut known = std::collections::BTreeSet::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(kind, "gauge");
            assert!(known.insert(name.to_owned()), "{name} twice");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name, mut rest) = line.split_at(line.find(['{', ' ']).unwrap());
        assert!(known.contains(name), "{name} without a type");
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            let mut letters = inner.char_indices();
            loop {
                let label: String = letters
                    .by_ref()
                    .map(|(_, letter)| letter)
                    .take_while(|letter| *letter != '=')
                    .collect();
                assert_eq!(letters.next().unwrap().1, '"');
                let mut value = String::new();
                loop {
                    match letters.next().unwrap().1 {
                        '"' => break,
                        '\\' => value.push(match letters.next().unwrap().1 {
                            'n' => '\n',
                            letter => letter,
                        }),
                        letter => value.push(letter),
                    }
                }
                labels.push((label, value));
                let (at, next) = letters.next().unwrap();
                if next == '}' {
                    rest = &inner[at + 1..];
                    break;
                }
                assert_eq!(next, ',');
            }
        }
        samples.push((name.to_owned(), labels, rest.trim_start().parse().unwrap()));
    }
    samples
}

proptest! {
    #[test]
    fn whatever_a_database_is_called_the_label_reads_back(names in prop::collection::btree_set("[^\\x00]{1,20}", 1..4)) {
        let names: Vec<String> = names.into_iter().filter(|name| format!("db:{name}").parse::<pefo_core::generation::DataSet>().is_ok()).collect();
        let rows = names.iter().map(|name| row(&format!("db:{name}"), None)).collect();
        let samples = parsed(&text(&overview(rows)));
        let of = |name: &str| -> Vec<String> {
            samples.iter().filter(|it| it.0 == name).map(|it| it.1[0].1.clone()).collect()
        };
        let wanted: Vec<String> = names.iter().map(|name| format!("db:{name}")).collect();
        prop_assert_eq!(of("pefo_lag_seconds"), wanted);
    }
}

#[test]
fn the_file_is_there_for_everybody_whole_and_says_when_nothing_can_be_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pefo.prom");
    let host = host(
        dir.path(),
        &format!("[metrics]\ntextfile = {:?}\n", path.display().to_string()),
    );
    write(&host, &overview(vec![row("ca", None)])).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let value = |name: &str| {
        let samples = parsed(&std::fs::read_to_string(&path).unwrap());
        samples.iter().find(|it| it.0 == name).map(|it| it.2)
    };
    assert_eq!(value("pefo_up"), Some(1.0));
    assert_eq!(value("pefo_lag_seconds"), Some(7.0));
    write_down(&host).unwrap();
    assert_eq!(value("pefo_up"), Some(0.0));
    assert_eq!(value("pefo_lag_seconds"), None);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        3,
        "a temp file stayed"
    );
}
