# The two-command front: `make run` boots Debian in a VM, `make check` proves the tree. The work is done
# by meson (build files) and by the scripts in tools/; `make help` lists what there is.

all: release ## build the release mode: build/release/ruche, build/release/ruche-vmm

release debug asan tsan coverage-build fuzz-build:
	@tools/build $(@:-build=)

run: release ## install what is missing, make a Debian guest disk, boot it on this terminal
	@tools/deps.sh run
	@tools/run-debian $(RUN_ARGS)

check: ## install what is missing, build, run every test; ends with `N passed, N failed`
	@tools/deps.sh build check run
	@tools/deps.sh guests
	@tools/check $(CHECK_ARGS)

debug: ## build without optimisation (build/debug)
asan: ## build with AddressSanitizer and UBSan (build/asan)
tsan: ## build with ThreadSanitizer (build/tsan)

fuzz: ## build the fuzz targets with clang and run each for FUZZ_SECONDS (30)
	@tools/deps.sh build check
	@tools/build fuzz
	@tools/fuzz $(or $(FUZZ_SECONDS),30)

soak: fuzz-build release ## hours of random instructions against the host CPU, of power cuts under qcow2, and of fuzzing (SOAK_MINUTES=60)
	@build/release/tests/diff/diff --seed $$(date +%s) --soak $(or $(SOAK_MINUTES),60)
	@build/release/tests/unit/test_qcow2_crash --soak $$(( $(or $(SOAK_MINUTES),60) / 8 + 1 )) $$(date +%s)
	@tools/fuzz $$(( $(or $(SOAK_MINUTES),60) * 60 / 8 ))

bench: release ## benchmark against QEMU's TCG and the host (QUICK=1, BENCH_ARGS='--case REGEX ...')
	@tools/deps.sh run bench
	@tests/bench/run $(if $(QUICK),--quick) $(BENCH_ARGS)
	@tests/bench/firmware

coverage: ## unit tests with line coverage (build/coverage)
	@tools/deps.sh build coverage
	@tools/build coverage
	@meson test -C build/coverage --suite unit
	@ninja -C build/coverage coverage-text && cat build/coverage/meson-logs/coverage.txt

lint: ## only the lints of `make check`
	@tools/deps.sh build check
	@tools/lint

format: ## let clang-format rewrite the sources
	@tools/deps.sh check
	@tools/lint --fix-format

install: release ## install under PREFIX (/usr/local), DESTDIR is honoured
	@to=$(DESTDIR)$(or $(PREFIX),/usr/local); while [ ! -e "$$to" ]; do to=$$(dirname "$$to"); done; \
	[ -w "$$to" ] || { echo "make install: $$to is not yours to write: sudo make install, or PREFIX=~/.local" >&2; exit 1; }
	@meson configure build/release --prefix $(or $(PREFIX),/usr/local)
	@meson install -C build/release

clean: ## remove everything that was built (the cached guest disk stays)
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: all release debug asan tsan coverage-build fuzz-build run check fuzz soak bench coverage lint format \
        install clean help
