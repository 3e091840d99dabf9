//! The operators' page names every refusal.

use super::*;

/// Refusals that are errors rather than conflicts of a plan.
const OTHERS: [&str; 16] = [
    "ca-missing",
    "ca-in-database",
    "ca-openvox-go",
    "ca-moved",
    "ca-fingerprint",
    "ca-other-authority",
    "ca-partial",
    "ca-key-missing",
    "ca-key-unsupported",
    "crl-readback",
    "cert-readback",
    "cert-serial",
    "rehearsal-unsound",
    "rehearsal-certname",
    "rehearsal-scratch",
    "rehearsal-failed",
];

#[test]
fn every_refusal_stands_in_the_operators_page_and_says_whether_it_can_be_accepted() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ca.md");
    let page = std::fs::read_to_string(page).unwrap();
    let row = |name: &str| {
        let begin = format!("| `{name}` |");
        page.lines()
            .find(|line| line.starts_with(&begin))
            .unwrap_or_else(|| panic!("{name} is not in docs/ca.md"))
    };
    for rule in pefo_ca::Rule::ALL {
        let accepted = row(rule.name()).split('|').nth(3).unwrap().trim() == "yes";
        assert_eq!(accepted, rule.is_acceptable(), "{rule}");
        assert!(!rule.hint().is_empty() && pefo_ca::Rule::from_name(rule.name()) == Some(*rule));
    }
    for name in OTHERS {
        row(name);
    }
}
