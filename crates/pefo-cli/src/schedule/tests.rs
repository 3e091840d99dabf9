use super::*;

fn config(more: &str) -> Config {
    Config::parse(&format!("[site]\ncertname = \"a.lab\"\n{more}")).unwrap()
}

const ALL: &str = "[classifier]\nurl = \"https://a.lab:4433/classifier-api\"\ncert = \"/c\"\nkey = \"/k\"\nca_cert = \"/ca\"\n\
     [database]\nnames = [\"pe-rbac\", \"pe-classifier\"]\n";

fn told(config: &Config) -> String {
    let plan = Plan::of(config);
    let line = |entry: &Entry| {
        let datasets: Vec<String> = entry.datasets.iter().map(ToString::to_string).collect();
        let (role, time) = (entry.role, entry.time.cron());
        format!(
            "{role}: {time} {} ({})\n",
            entry.command,
            datasets.join(" ")
        )
    };
    plan.entries().iter().map(line).collect()
}

#[test]
fn the_original_modules_times_are_the_defaults() {
    insta::assert_snapshot!(told(&config(ALL)), @r"
    active: * * * * * ca push (ca)
    active: 10 * * * * nc push (nc)
    active: 20 * * * * db push (db:pe-rbac db:pe-classifier)
    passive: * * * * * ca apply (ca)
    passive: 0 * * * * nc restore (nc)
    passive: 3 * * * * db restore (db:pe-rbac db:pe-classifier)
    ");
}

#[test]
fn what_is_not_configured_is_not_scheduled_and_a_drill_only_where_it_is_asked_for() {
    insta::assert_snapshot!(told(&config("[schedule]\ndrill = \"weekly\"")), @r"
    active: * * * * * ca push (ca)
    passive: * * * * * ca apply (ca)
    passive: 45 4 * * 0 drill ()
    ");
}

#[test]
fn what_is_due_next_depends_on_the_role_and_on_what_is_configured() {
    let config = config(ALL);
    let now: Timestamp = serde_json::from_value("2026-11-22T10:19:30.5Z".into()).unwrap();
    let due = |role, dataset: &str| {
        let dataset = dataset.parse().unwrap();
        next_due(&config, role, &dataset, now).map(|time| time.to_string())
    };
    let at = |text: &str| Some(text.to_owned());
    assert_eq!(due(Role::Active, "ca"), at("2026-11-22T10:20:00Z"));
    assert_eq!(due(Role::Active, "nc"), at("2026-11-22T11:10:00Z"));
    assert_eq!(due(Role::Active, "db:pe-rbac"), at("2026-11-22T10:20:00Z"));
    assert_eq!(due(Role::Passive, "db:pe-rbac"), at("2026-11-22T11:03:00Z"));
    assert_eq!(due(Role::Passive, "nc"), at("2026-11-22T11:00:00Z"));
    assert_eq!(due(Role::Passive, "db:another"), None);
}
