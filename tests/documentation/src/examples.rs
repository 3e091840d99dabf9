//! How commands are called: each line is one that the program's own parser takes, which a test sees to.

/// A command, and lines with what they do.
pub const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "pefo",
        &[
            ("pefo status", "Role, reign and the age of each data set."),
            (
                "pefo check",
                "Whether everything that this host's role needs is there.",
            ),
            (
                "pefo push",
                "On the active: all that is configured goes to every peer.",
            ),
            ("pefo apply", "On the passive: verify and apply what came."),
        ],
    ),
    (
        "pefo init active",
        &[
            (
                "pefo init active",
                "Makes this host the active, and prints the line for the passive.",
            ),
            (
                "pefo init active --accept 'pefo-pair-1.…'",
                "Takes the line that the passive printed, and proves a login.",
            ),
        ],
    ),
    (
        "pefo init passive",
        &[(
            "pefo init passive --join 'pefo-pair-1.…'",
            "Takes the active's line, and prints one back.",
        )],
    ),
    (
        "pefo check",
        &[
            ("pefo check", "For people, and for a monitoring plugin."),
            (
                "pefo check --json",
                "Each point with its faults, hints and numbers, for machines.",
            ),
        ],
    ),
    (
        "pefo config example",
        &[(
            "pefo config example",
            "Every key with its default; write it to /etc/pefo/pefo.toml.",
        )],
    ),
    (
        "pefo ca push",
        &[
            (
                "pefo ca push",
                "What changed crosses; nothing where nothing did.",
            ),
            (
                "pefo ca push --seed",
                "Once: the whole CA, its key sealed to the spare's root.",
            ),
        ],
    ),
    (
        "pefo ca apply",
        &[
            ("pefo ca apply --dry-run", "The plan, and nothing else."),
            (
                "pefo ca apply --accept crl-shrink",
                "With one gate overruled; it is recorded.",
            ),
            (
                "pefo ca apply --rollback 00000001-000000000007",
                "Back to an older generation of those kept.",
            ),
        ],
    ),
    (
        "pefo ca watch",
        &[(
            "pefo ca watch",
            "As a service on both masters: changes cross in milliseconds.",
        )],
    ),
    (
        "pefo nc restore",
        &[(
            "pefo nc restore --dry-run",
            "What importing the newest export would change.",
        )],
    ),
    (
        "pefo db push",
        &[
            (
                "pefo db push",
                "Every configured database that was written to since.",
            ),
            (
                "pefo db push --force pe-rbac",
                "One, also where nothing was committed.",
            ),
        ],
    ),
    (
        "pefo db restore",
        &[(
            "pefo db restore pe-rbac",
            "Restores into a shadow, compares, swaps.",
        )],
    ),
    (
        "pefo promote",
        &[
            (
                "pefo promote --dry-run",
                "What taking over would do, and what would be lost.",
            ),
            ("pefo promote", "The active is gone: this host takes over."),
        ],
    ),
    (
        "pefo switchover",
        &[(
            "pefo switchover --dry-run",
            "Whether all is ready to hand over.",
        )],
    ),
    (
        "pefo pause",
        &[(
            "pefo pause --reason 'upgrade to 2025.1'",
            "Nothing is pushed or applied here until 'pefo resume'.",
        )],
    ),
    (
        "pefo schedule print",
        &[(
            "pefo schedule print --format systemd",
            "Timers and services for this host's role.",
        )],
    ),
];

/// The examples of one command.
pub fn of(command: &str) -> &'static [(&'static str, &'static str)] {
    let found = EXAMPLES.iter().find(|(name, _)| *name == command);
    found.map_or(&[], |(_, examples)| examples)
}
