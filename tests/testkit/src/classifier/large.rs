//! A hierarchy as large and as odd as a big site's: 5,000 groups, the same every time.

use serde_json::{Number, Value, json};

use super::root_group;

const GROUPS: usize = 5_000;

/// 5,000 groups of about 4 MB, and one value of 1 MB: a parent with 1,500 children, a chain of 200,
/// children before parents, rules up to depth 5 with integer path components and `<:`, a group with
/// 10,000 pins, `config_data`, marks of missing classes, one name in two environments, odd names,
/// exact numbers, empty objects and explicit nulls. `host` is pinned and mentioned all over, among near
/// misses.
pub fn large_hierarchy(host: &str, seed: u64) -> Vec<Value> {
    let mut random = Random(seed);
    let mut groups = vec![root_group()];
    for number in 1..GROUPS {
        groups.push(group(number, host, &mut random));
    }
    groups[1]["name"] = json!("PE Infrastructure");
    groups[1]["classes"] = json!({"puppet_enterprise": {"puppet_master_host": host, "puppetdb_host": host, "console_port": 443}});
    let pins = (0..10_000).map(|n| json!(["=", "name", format!("node{n}.example.com")]));
    groups[2]["rule"] = std::iter::once(json!("or")).chain(pins).collect();
    groups[3]["variables"]["blob"] = json!("x".repeat(1 << 20));
    for at in (1..groups.len()).rev() {
        groups.swap(at, random.below(at + 1));
    }
    groups
}

fn id(number: usize) -> String {
    if number == 0 {
        return super::state::ROOT.to_owned();
    }
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        number.wrapping_mul(2_654_435_761) & 0xffff_ffff,
        number & 0xffff,
        number % 4096,
        7,
        number
    )
}

fn group(number: usize, host: &str, random: &mut Random) -> Value {
    let parent = match number {
        // One chain, one broad family, and a bush.
        2..=201 => number - 1,
        202..=1701 => 1,
        _ => random.below(number.min(400)),
    };
    // A name stands in two environments, but never twice in one.
    let name = match number % 50 {
        0 => format!("Größe \"{}\" \\ 日本 {}", number, host),
        _ => format!("group {}", number / 2),
    };
    let mut group = json!({
        "name": name,
        "id": id(number),
        "parent": id(parent),
        "environment": if number.is_multiple_of(2) { "production" } else { "staging" },
        "environment_trumps": random.below(10) == 0,
        "last_edited": format!("2019-01-01T00:00:{:02}.000Z", number % 60),
        "serial_number": number,
        "variables": {"site": format!("s{}", random.below(9)), "empty": {}, "nothing": null},
        "classes": classes(number, host, random)
    });
    match random.below(100) {
        0..15 => {}
        15..25 => group["rule"] = comparison(host, random),
        _ => group["rule"] = rule(host, 1 + random.below(5), random),
    }
    if random.below(100) < 30 {
        group["config_data"] = json!({"profile::base": {"server": host, "n": random.below(9)}});
    }
    if random.below(100) < 5 {
        group["deleted"] = json!({"apache": {"puppetlabs.classifier/deleted": true}});
    }
    if number.is_multiple_of(7) {
        group["description"] = json!(format!("made for {host}"));
    }
    group
}

fn classes(number: usize, host: &str, random: &mut Random) -> Value {
    let exact = |text: &str| Value::Number(text.parse::<Number>().expect("a number"));
    json!({
        "apache": {"keepalive": random.below(60), "big": exact("9007199254740993"), "ratio": exact("0.10"), "off": null},
        "pe_repo": {},
        "puppet_enterprise::profile::agent": {
            "server_list": [format!("{host}:8140"), format!("compiler{}.example.com:8140", number % 5)],
            "master_uris": [format!("https://{host}:8140/x")]
        }
    })
}

fn rule(host: &str, depth: usize, random: &mut Random) -> Value {
    if depth == 0 {
        return comparison(host, random);
    }
    match random.below(4) {
        0 => json!(["not", rule(host, depth - 1, random)]),
        operator => {
            let head = json!(if operator == 1 { "and" } else { "or" });
            let count = 1 + random.below(2);
            std::iter::once(head)
                .chain((0..count).map(|_| rule(host, depth - 1, random)))
                .collect()
        }
    }
}

fn comparison(host: &str, random: &mut Random) -> Value {
    let escaped = host.replace('.', "\\.");
    match random.below(20) {
        0 => json!(["<:", ["fact", "disks"], "sda"]),
        1..5 => json!(["=", "name", host]),
        5 => json!(["=", "name", host.to_ascii_uppercase()]),
        6 => json!(["=", ["trusted", "certname"], host]),
        7 => json!(["=", "name", format!("x{host}")]),
        8 => json!(["=", "name", format!("{host}.lab")]),
        9 => json!(["~", "name", format!("^{escaped}$")]),
        10 => json!(["=", ["fact", "disks", 0, "mount"], "/"]),
        11 => json!(["=", ["fact", "fqdn"], host]),
        n => json!([">=", ["fact", "processorcount"], n.to_string()]),
    }
}

/// A small generator (Knuth's MMIX constants): the point is that it is the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }
}
