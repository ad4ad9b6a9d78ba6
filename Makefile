# fullbore: set-up, build and tests. Every target that needs libtorch finds or fetches it by itself.

# Flags for every cargo call (CI: --locked). Cargo itself uses all cores; CARGO_BUILD_JOBS=1 makes it modest.
CARGO_FLAGS ?=

# Runs cargo with LIBTORCH set. The one line of a plain cargo user: export LIBTORCH="$(scripts/libtorch)"
torch = scripts/libtorch
cargo = $(torch) -- cargo

.PHONY: help build demo test test-build lint format clippy doc clean tools

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: tools ## Build the fullbore command: target/release/fullbore
	$(cargo) build --release --bin fullbore $(CARGO_FLAGS)

demo: build ## Make a data set, train a small U-Net on it, predict, show a contact sheet
	$(torch) -- scripts/demo

# The examples in the documentation first, so that the summary of the tests comes last.
test: tools ## Set up what is missing and run every test
	python3 scripts/libtorch_test.py --quiet
	@if cargo nextest --version >/dev/null 2>&1; then set -ex; \
	    $(cargo) test --doc --workspace $(CARGO_FLAGS); \
	    $(cargo) nextest run --no-fail-fast --workspace $(CARGO_FLAGS); \
	else set -ex; \
	    $(cargo) test --no-fail-fast --workspace $(CARGO_FLAGS); \
	fi

test-build: tools ## Build the tests without running them
	$(cargo) test --no-run --workspace $(CARGO_FLAGS)

lint: format clippy doc ## Check format, clippy and documentation as CI does

format:
	@scripts/check-tools lint
	cargo fmt --all --check

clippy: tools
	$(cargo) clippy --workspace --all-targets $(CARGO_FLAGS) -- -D warnings

doc: tools ## Build the documentation: target/doc
	RUSTDOCFLAGS="-D warnings" $(cargo) doc --workspace --no-deps $(CARGO_FLAGS)

clean: ## Delete what was built; libtorch stays in its cache
	cargo clean

# Crates first and on their own, so that a missing network is told apart from code that does not compile.
tools:
	@scripts/check-tools
	@cargo fetch --quiet $(CARGO_FLAGS) --target x86_64-unknown-linux-gnu || { \
	    echo "error: the crates that fullbore is built from cannot be fetched" >&2; \
	    echo "  next: check the network and the proxy (https_proxy), or name a mirror in ~/.cargo/config.toml" >&2; \
	    exit 2; }
