# Two commands: `make demo` shows the main job, `make test` runs every test. Both install what they
# need on Debian and Ubuntu, where they are root; see scripts/install-dependencies.sh.

.PHONY: demo test bench lint doc deny fuzz deb reference dependencies clean

CARGO ?= cargo
export PEFO_DEMO_KEEP := $(KEEP)

demo: dependencies
	$(CARGO) build --quiet --locked -p pefo-cli -p pefo-examples
	target/debug/demo

# The end-to-end suite drives the program itself, so that is built first.
test: dependencies
	$(CARGO) build --locked -p pefo-cli -p pefo-transport -p pefo-documentation --examples --bins
	$(CARGO) test --locked --workspace

# pefo and its peers in the same run. ROWS='tree_noop_50k ca_*' measures some rows, PAIRS=9 so many pairs.
# 'set -f' hands the stars on as they are.
bench:
	sh scripts/install-dependencies.sh bench
	$(CARGO) build --release --locked -p pefo-bench -p pefo-transport -p pefo-cli -p pefo-examples --examples --bins
	set -f; target/release/bench $(if $(PAIRS),--pairs $(PAIRS)) $(ROWS)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

# Bans, licences and sources always; advisories where their database can be reached, else that is told.
deny:
	sh scripts/check-dependencies.sh

# target/debian/pefo_VERSION_ARCH.deb; nothing is installed.
deb:
	CARGO="$(CARGO)" sh scripts/build-deb.sh

# docs/commands.md, from the program's own help; a test fails where it is not up to date.
reference:
	$(CARGO) build --quiet --locked -p pefo-documentation
	target/debug/pages reference docs/commands.md

# libFuzzer on every target, or on TARGET="frame patch", each for SECONDS.
fuzz: SECONDS ?= 60
fuzz:
	sh scripts/fuzz.sh $(SECONDS) $(TARGET)

dependencies:
	sh scripts/install-dependencies.sh

clean:
	$(CARGO) clean
