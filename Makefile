# Everything is built, shown and tested through these targets.
# From a bare Debian 12 with Go: make demo, make test.

export GOTOOLCHAIN := local

SUITE := go run ./cmd/internal/suite
BINS := bin/sallyport bin/sallyport-recorder bin/oidcop

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install what building and testing need and this machine lacks (as root)
	@.ci/deps all

.PHONY: build
build: $(BINS) ## Build the programs into bin/

bin/oidcop: FORCE
	go build -C cmd/internal/oidcop -o $(CURDIR)/$@ .

bin/demo bin/bench: bin/%: FORCE
	go build -o $@ ./cmd/internal/$*

bin/%: FORCE
	go build -o $@ ./cmd/$*

.PHONY: FORCE
FORCE:

.PHONY: demo
demo: deps-run $(BINS) bin/demo ## Show a whole sallyport at work (as root); KEEP=1 leaves it running
	@bin/demo $(if $(KEEP),-keep)

.PHONY: bench
bench: deps-bench $(BINS) bin/bench ## Compare with a direct connection and other relays (as root)
	@bin/bench
	@go test -run '^$$' -bench Journal -benchtime 3x ./protocols/postgres

.PHONY: bench-slow
bench-slow: deps-run bin/sallyport bin/bench ## Measure stores of 10 million events and a million sessions (half an hour, 15 GB below TMPDIR)
	@bin/bench slow $(BENCH_SLOW)

.PHONY: deps-bench
deps-bench:
	@.ci/deps bench

.PHONY: deps-run
deps-run:
	@.ci/deps run

.PHONY: test
test: deps ## Run everything that a change must pass (as root)
	@$(SUITE) format vet staticcheck modules vagrant systemd generated tests allocs fuzz demo

.PHONY: race
race: deps ## Run the tests that need the kernel under the race detector too (as root)
	@$(SUITE) race

.PHONY: doors
doors: deps ## Measure what each door leads to on this kernel, and write docs/doors.md (as root)
	go test -count=1 ./cmd/internal/doors -run '^TestDoors$$' -update

.PHONY: test-kernels
test-kernels: ## Run the interception's tests on Debian's kernels, in virtual machines
	@.ci/deps kernels
	@go run ./cmd/internal/kernels

.PHONY: test-versions
test-versions: deps ## Run the PostgreSQL session's tests with servers 13 to 18
	@.ci/deps versions
	@$(SUITE) versions

.PHONY: test-conformance
test-conformance: ## Run pgx's, lib/pq's and PostgreSQL's own tests, direct and through a passage
	@.ci/deps conformance
	go test -tags conformance -count=1 -v -timeout 3h ./cmd/internal/conformance

.PHONY: check
check: deps ## Check the sources: formatting, vet, staticcheck, modules, guards
	@$(SUITE) format vet staticcheck modules vagrant systemd guards

.PHONY: fuzz
fuzz: deps ## Run every fuzz target for FUZZTIME (default 1m), and keep what it finds
	@$(SUITE) -fuzztime $(or $(FUZZTIME),1m) -corpus $(CURDIR)/.cache/fuzz fuzz

.PHONY: soak
soak: deps ## Run all tests SOAK times (default 10), for what fails now and then (as root)
	@$(SUITE) -count $(or $(SOAK),10) tests

.PHONY: fmt
fmt: ## Format Go and C
	go tool -modfile=tools/gofumpt/go.mod gofumpt -w .
	clang-format -i bpf/*.c bpf/headers/*.h bpf/headers/asm/*.h

.PHONY: generate
generate: deps ## Make the committed BPF objects from bpf/*.c
	go generate ./bpf

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin .cache
