#!/bin/sh
# Audits the dependencies with cargo-deny, installing it where it is missing: bans, licences and
# sources always; advisories where their database can be reached, else it says that they were not.
set -eu

if ! cargo deny --version >/dev/null 2>&1; then
    echo "dependencies: installing cargo-deny"
    cargo install --quiet --locked --debug cargo-deny
fi
cargo deny --locked check bans licenses sources
if cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check advisories
else
    echo "dependencies: the advisory database is out of reach; advisories were not checked"
fi
