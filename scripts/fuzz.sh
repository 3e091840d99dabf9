#!/bin/sh
# Fuzzes each target of tests/fuzz, or the ones named, for so many seconds: fuzz.sh SECONDS [TARGET…].
# Works on the stable toolchain: libFuzzer guides by coverage, without a sanitizer. What it finds stands
# in fuzz/artifacts; what it learnt stays in fuzz/corpus for the next time.
set -eu
cd "$(dirname "$0")/.."

seconds=$1
shift
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz"
    cargo install --quiet --locked --debug cargo-fuzz
fi
if [ $# -eq 0 ]; then
    for program in fuzz/fuzz_targets/*.rs; do
        set -- "$@" "$(basename "$program" .rs)"
    done
fi
for target in "$@"; do
    mkdir -p "fuzz/corpus/$target"
    echo "fuzz: $target for $seconds s"
    cargo fuzz run -s none "$target" "fuzz/corpus/$target" "tests/fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1
done
