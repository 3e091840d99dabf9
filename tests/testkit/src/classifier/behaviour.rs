//! Switches for what the product's documentation leaves open, and for settings of the real one.
//!
//! Each has a name, by which a program is told on its command line; the compiler holds the names against
//! the fields.

/// How many switches there are.
const COUNT: usize = 13;

/// What the documentation leaves open, and settings of the real one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Behaviour {
    /// Whether configuration data is on (`classifier::allow-config-data`); off, it is left out of
    /// answers and refused in requests (400).
    pub config_data: bool,
    /// Whether an import with missing classes is refused (422) rather than taken and marked. The
    /// documentation speaks of missing classes only where one group is created or changed.
    pub strict_classes: bool,
    /// Whether every change counts a group's serial number up and sets its edit time, an import
    /// included; off, as before 2018.1.
    pub serial_bump: bool,
    /// Whether every `GET /v1/groups` has another order. None is documented.
    pub reordered: bool,
    /// Whether keys of a group that are documented nowhere are taken and kept, rather than refused
    /// (400).
    pub unknown_keys: bool,
    /// Whether a group to import must have `environment_trumps` and `variables` (400 otherwise). "All
    /// fields must be defined", says the documentation, and shows groups without the first; `rule`
    /// and `description` may always be absent, as they are in what `GET` gives.
    pub complete_imports: bool,
    /// Whether an import that has an id twice is taken, the last of them winning, rather than refused
    /// (422, `uniqueness-violation`).
    pub duplicate_ids: bool,
    /// Whether an import without the root group is taken, rather than refused (422,
    /// `unreachable-groups`).
    pub rootless: bool,
    /// Whether a PUT takes a serial number that is not the group's last one, rather than refusing it
    /// (409), as a delta is.
    pub stale_puts: bool,
    /// Whether a delta is merged into values of parameters and variables that are objects themselves;
    /// off, it replaces them.
    pub deep_deltas: bool,
    /// Whether `update-classes` of an environment that the master does not have is an
    /// `unexpected-response` (500), because the master answers 404; off, nothing is read (201).
    pub strict_environments: bool,
    /// Whether a body of unknown length is read, rather than refused (411).
    pub chunked_requests: bool,
    /// Whether a delta, PUT or pin may change the root group's rule; off, it is refused (422). Only a
    /// delta's refusal is documented, but for "any attempts".
    pub root_rule_edits: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            config_data: true,
            strict_classes: false,
            serial_bump: true,
            reordered: false,
            unknown_keys: true,
            complete_imports: true,
            duplicate_ids: false,
            rootless: false,
            stale_puts: false,
            deep_deltas: true,
            strict_environments: true,
            chunked_requests: false,
            root_rule_edits: false,
        }
    }
}

impl Behaviour {
    /// The switch of this name, such as `strict-classes`.
    pub fn switch(&mut self, name: &str) -> Option<&mut bool> {
        self.switches()
            .into_iter()
            .find_map(|(known, switch)| (known == name).then_some(switch))
    }

    /// The names of all switches.
    pub fn names() -> [&'static str; COUNT] {
        Self::default().switches().map(|(name, _)| name)
    }

    fn switches(&mut self) -> [(&'static str, &mut bool); COUNT] {
        // Taken apart without `..`, so that a new switch cannot be left without a name.
        let Self {
            config_data,
            strict_classes,
            serial_bump,
            reordered,
            unknown_keys,
            complete_imports,
            duplicate_ids,
            rootless,
            stale_puts,
            deep_deltas,
            strict_environments,
            chunked_requests,
            root_rule_edits,
        } = self;
        [
            ("config-data", config_data),
            ("strict-classes", strict_classes),
            ("serial-bump", serial_bump),
            ("reordered", reordered),
            ("unknown-keys", unknown_keys),
            ("complete-imports", complete_imports),
            ("duplicate-ids", duplicate_ids),
            ("rootless", rootless),
            ("stale-puts", stale_puts),
            ("deep-deltas", deep_deltas),
            ("strict-environments", strict_environments),
            ("chunked-requests", chunked_requests),
            ("root-rule-edits", root_rule_edits),
        ]
    }
}
