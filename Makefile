# make build, make demo and make bench need Go alone (the two that run need root and a kernel as well).
# make test installs the rest on Debian and Ubuntu, as root, and runs everything that CI runs.

GO      ?= go
CLANG   ?= clang-19
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The tiers that need a kernel, by what they need of it: program runs, and network namespaces.
BPF_TESTS   := ./pkg/loader ./internal/bench ./test/progrun
NETNS_TESTS := ./internal/lab ./internal/privilege ./internal/demo ./cmd/weir ./test/netns
PROXY_TESTS := ./test/integration
# Those that need redis-server, and those that simulate many nodes, without the race detector, which would take minutes;
# RACE_TESTS are what of them it looks at.
STORE_TESTS := ./pkg/sync ./internal/simulation
NODES_TESTS := ./test/nodes
RACE_TESTS  := 'TestLimiters|TestManyWait|TestStoreThatBlocks|TestSpike|TestSpendersAndClaims|TestFollow|TestSharers'
UNIT_TESTS   = $(filter-out $(BPF_TESTS) $(NETNS_TESTS) $(PROXY_TESTS) $(STORE_TESTS) $(NODES_TESTS),$(patsubst github.com/weir-limiter/weir/%,./%,$(shell $(GO) list ./...)))

NATIVE_FLAGS := -g -O1 -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all -Iheaders
FUZZ_TIME    ?= 10

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: build
build: ## bin/weir, static; needs only Go
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/weir ./cmd/weir

.PHONY: demo
demo: build ## watch the kernel hold flooding hosts to their limit; needs root
	bin/weir demo

.PHONY: bench
bench: build ## the tables of docs/PERFORMANCE.md, in some eleven minutes; needs root and redis-server
	bin/weir bench --compare bpf/bench/lru.bpf.o
	cd bench && $(GO) run .

.PHONY: cost
cost: build ## what the verifier says of each program: instructions and stack; needs root
	bin/weir bench --only verifier

.PHONY: test
test: deps lint check-generated test-unit test-native test-bpf test-netns test-integration test-nodes test-together ## everything that CI runs

.PHONY: deps
deps: ## install what building and testing need
	scripts/deps.sh

.PHONY: test-unit
test-unit: ## pure Go, with the race detector
	$(GO) test -race $(UNIT_TESTS)

.PHONY: test-native
test-native: fuzz ## the data plane's C, compiled for this machine, with sanitisers
	$(CLANG) $(NATIVE_FLAGS) bpf/test/vectors.c -o build/vectors
	build/vectors testdata/vectors/bucket.txt
	$(CLANG) $(NATIVE_FLAGS) bpf/test/parse_test.c -o build/parse_test
	build/parse_test

.PHONY: fuzz
fuzz: build/ ## the packet parser under libFuzzer, FUZZ_TIME seconds
	$(CLANG) $(NATIVE_FLAGS) -fsanitize=fuzzer bpf/test/parse_fuzz.c -o build/parse_fuzz
	mkdir -p build/corpus
	build/parse_fuzz -max_total_time=$(FUZZ_TIME) -max_len=256 -verbosity=0 -artifact_prefix=build/ build/corpus

.PHONY: fuzz-go
fuzz-go: ## the fuzz tests of pkg/, FUZZ_TIME seconds each; no part of make test
	scripts/fuzz-go.sh $(FUZZ_TIME)

.PHONY: test-bpf
test-bpf: build ## the programs in the kernel, by BPF_PROG_TEST_RUN; needs root
	$(GO) test -count=1 $(BPF_TESTS)

.PHONY: test-netns
test-netns: build ## real packets between network namespaces; needs root
	$(GO) test -count=1 -p 1 $(NETNS_TESTS)

.PHONY: test-integration
test-integration: ## nginx, Caddy, HAProxy and a client of Envoy's protocol in front of weir; needs root
	$(GO) test -count=1 $(PROXY_TESTS)

# Neither of the two measures rates or waits, so that they may have a processor each.
.PHONY: test-together
test-together:
	$(MAKE) --no-print-directory --output-sync=target -j2 test-store vm-quick

.PHONY: test-store
test-store: ## what nodes share, with a real redis-server, and simulated clusters
	$(GO) test -count=1 $(STORE_TESTS)
	$(GO) test -count=1 -race -run $(RACE_TESTS) ./pkg/sync

.PHONY: test-nodes
test-nodes: build ## three daemons in network namespaces, a real Redis, and some faults; needs root
	WEIR_TEST_BINARY=$(CURDIR)/bin/weir $(GO) test -count=1 -parallel 4 $(NODES_TESTS)

.PHONY: test-nodes-all
test-nodes-all: build ## the same with every fault, in some five minutes; no part of make test; needs root
	WEIR_TEST_ALL=1 WEIR_TEST_BINARY=$(CURDIR)/bin/weir $(GO) test -count=1 -p 1 -timeout 30m -v $(NODES_TESTS)

.PHONY: test-traefik
test-traefik: build/traefik ## Traefik in front of weir, built from its Go module; no part of make test; needs root
	$(GO) test -count=1 -tags traefik -run TestTraefik $(PROXY_TESTS)

build/traefik: scripts/traefik.sh
	scripts/traefik.sh

.PHONY: vm-quick
vm-quick: ## the part of vm-test that CI runs
	scripts/vm-kernels.sh 6.1 6.12
	$(GO) run ./test/vm -quick

.PHONY: vm-test
vm-test: ## what depends on the kernel, on Debian's 6.1 and 6.12 under qemu, and on four CPUs
	scripts/vm-kernels.sh 6.1 6.12
	$(GO) run ./test/vm

.PHONY: soak
soak: build ## a longer flood and a longer differential test than CI's; SOAK sets how long each
	WEIR_SOAK=$(or $(SOAK),5m) $(GO) test -count=1 -timeout 0 -run Soak ./test/netns
	WEIR_DIFFERENTIAL=$(or $(SOAK),5m) $(GO) test -count=1 -timeout 0 -run TestDifferential ./test/progrun

.PHONY: generate
generate: ## rebuild the BPF objects and everything else that is generated
	$(GO) generate ./...

.PHONY: check-generated
check-generated: ## fail if a committed file is not what its source makes
	scripts/check-generated.sh

.PHONY: lint
lint: ## formatting, vet, and who may import whom
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags traefik $(PROXY_TESTS)
	cd bench && $(GO) vet ./...
	$(GO) tool depguard ./...

build/:
	mkdir -p build

.PHONY: clean
clean: ## remove what was built
	rm -rf bin build
