# The targets of a developer. They need only Go: the versions of tools are pinned here or in tools/go.mod, and Go builds a tool when it is
# first used.

GOLANGCI_LINT := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BUF           := go tool -modfile=../tools/go.mod buf
VERSION       := $(shell git describe --tags --dirty 2>/dev/null || echo dev)
COMMIT        := $(shell git rev-parse HEAD 2>/dev/null)$(shell git status --porcelain 2>/dev/null | grep -q . && echo -dirty)
STAMP         := -X github.com/kisgrid/kisgrid/internal/command.Version=$(VERSION) -X github.com/kisgrid/kisgrid/internal/command.Commit=$(COMMIT)
APIDIFF       := golang.org/x/exp/cmd/apidiff@v0.0.0-20261113113407-e3970619a1a4
FUZZTIME      ?= 10s
BENCH         ?= .
SERIES        ?= all
GROWTH_FOR    ?= 3s
SIM_ROWS      ?= 10000000
SIM_BATCHES   ?= 40000
OUTPUT_BATCHES ?= 16
SIM_WORKERS   ?= 1000
SIM_COORDINATORS ?= 2
SIM_SEED      ?= $(shell date +%s)
CHAOS_TIME    ?= 20m
CHAOS_RATE    ?= 4000
CHAOS_SEED    ?= $(shell date +%s)

.PHONY: console-pictures world-mutants help build images release api figures test test-tools lint lint-ci tools-lint tools-proto tools-modules tools-api tools-prometheus alerts proto proto-check proto-freeze bench soak-once soak-join soak-wakeups soak-records soak-windows soak-config soak-revisions fuzz world sim sim-steps growth settle outputs chaos vuln e2e-k8s

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' Makefile

build: ## Build the programs into bin/
	go build -trimpath -ldflags '$(STAMP)' -o bin/ ./cmd/...

# IMAGES are more flags, such as -push or -repository registry.example.com/grid: see cd tools && go run ./images -h.
images: ## Build container images for amd64 and arm64 into bin/images, the same bytes from the same commit: IMAGES
	@cd tools && go run ./images -o ../bin/images -version $(VERSION) -revision "$(COMMIT)" -ldflags '$(STAMP)' $(IMAGES) \
		coordinator=../cmd/coordinator worker=../cmd/worker kisgrid=../cmd/kisgrid

# Without SNAPSHOT it takes only a commit that has a tag. RELEASING.md says what to do before and after.
release: ## Build the files of the release of this commit's tag into bin/release; SNAPSHOT=1 tries it without a tag; IMAGES
	@[ -n "$(SNAPSHOT)" ] || git describe --tags --exact-match --match 'v[0-9]*' >/dev/null || \
		{ echo "release: this commit has no tag such as v1.2.3: check one out, or try it with make release SNAPSHOT=1" >&2; exit 1; }
	@[ -n "$(SNAPSHOT)" ] || $(MAKE) --no-print-directory api
	rm -rf bin/release && mkdir -p bin/release
	@$(MAKE) --no-print-directory images >bin/release/images.txt && cat bin/release/images.txt
	cd tools && go run ./release -o ../bin/release -root .. -version "$(VERSION)" -commit "$(COMMIT)" \
		-time "$$(git log -1 --format=%ct)" $(if $(SNAPSHOT),-snapshot)

figures: ## Print how hard the code is to enter, in figures; DRAW=20 draws doc comments, from SEED; ARROWS=pkg/client lists arrows
	@cd tools && go run ./figures -root .. $(if $(DRAW),-draw $(DRAW)) $(if $(SEED),-seed "$(SEED)") $(if $(ARROWS),-arrows "$(ARROWS)")

api: ## Fail when a stable package breaks programs that use the last release; BREAKS=allowed only prints it
	./tools/api.sh $(APIDIFF)

# Tests use free ports and stop the servers that they start; an installed server need not run. A small program, built with the race
# detector, shows whether the race detector works here: it needs a C compiler, the headers of a C library, and a supported platform.
PACKAGES ?= ./...

test: ## Run every test of PACKAGES; with the race detector, the real redis-server, etcd and etcdctl where they are installed
	@for tool in redis-server etcd etcdctl; do \
		printf '%-15s %s\n' $$tool "$$(command -v $$tool || echo 'not installed: an embedded one stands in, or the test says that it is skipped')"; \
	done
	@printf '%-15s %s\n' prometheus "$$(command -v prometheus || ls bin/prometheus/usr/bin/prometheus 2>/dev/null || echo 'NOT INSTALLED: alerts are not tried; make tools-prometheus gets it')"
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && echo 'package main; func main() {}' >"$$dir/main.go" && race=-race && \
	if go build -race -o "$$dir/main" "$$dir/main.go" >"$$dir/why" 2>&1; then \
		printf '%-15s %s\n' 'race detector' on; \
	else \
		race=; export CGO_ENABLED=0; sed 's/^/                /' "$$dir/why"; \
		printf '%-15s %s\n' 'race detector' 'OFF: nothing can be built with it (see above), and races go unseen; install a C compiler (Debian: gcc libc6-dev)'; \
	fi && echo "go vet $(PACKAGES) && go test $$race -timeout 15m $(PACKAGES)" && go vet $(PACKAGES) && go test $$race -timeout 15m $(PACKAGES)

# Debian's package is unpacked into bin/: nothing is installed, and no service starts. Where both programs are on the PATH already, they
# are used.
tools-prometheus: ## Unpack Debian's Prometheus into bin/prometheus, unless it is installed
	@{ command -v prometheus && command -v promtool; } >/dev/null || [ -x bin/prometheus/usr/bin/promtool ] || { \
		dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && (cd "$$dir" && apt-get download -q prometheus) && \
			dpkg-deb -x "$$dir"/prometheus_*.deb "$$dir/unpacked" && rm -rf bin/prometheus && mkdir -p bin && mv "$$dir/unpacked" bin/prometheus; \
	} || { echo "tools-prometheus: apt-get could not get the package prometheus: run apt-get update, or put prometheus and promtool on the PATH" >&2; exit 1; }

# A new alert needs two cases in deploy/prometheus/alerts_test.yml: one that fires it and one that does not. ALERTS are more flags of the
# tests, such as -run TestCases.
alerts: tools-prometheus ## Test each alert of deploy/prometheus on a real Prometheus, which is downloaded if need be: ALERTS
	go test -count=1 -timeout 10m ./e2e/alerts -alerts.required $(ALERTS)

# A mutant is a fault that breaks a promise; internal/world/mutants/testdata has one in each file. MUTANTS are more flags, such as
# -run credit, -seeds 100, -time 2m for each mutant, or -out bin/mutants for the output of the tests.
world-mutants: ## Show that the simulated world finds the mutants of internal/world/mutants, each within 500 seeds: MUTANTS
	go run ./internal/world/mutants/hunt $(MUTANTS)

test-tools: ## Run the tests of the programs in tools/, which is another module
	cd tools && go vet ./... && go test ./...

lint: ## Check style, and the .proto files
	$(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd tools && $(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd proto && $(BUF) lint && $(BUF) format --diff --exit-code

# These linters have found mistakes here, or find mistakes that tests hardly find. The others have found style.
LINTERS_CI := govet,staticcheck,unused,errcheck,errchkjson,errorlint,ineffassign,durationcheck,noctx,bodyclose

lint-ci: ## Check for mistakes and gofmt only: the part of lint that CI runs
	$(GOLANGCI_LINT) run --allow-parallel-runners --enable-only $(LINTERS_CI) ./...
	@files=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')) && { [ -z "$$files" ] || { echo "these are not as gofmt has them:"; echo "$$files"; exit 1; }; }

# These targets build the tools into Go's cache. They fail only when a tool can't be downloaded.
tools-lint:
	$(GOLANGCI_LINT) version
tools-proto:
	cd proto && $(BUF) --version && go build -modfile=../tools/go.mod -o /dev/null google.golang.org/protobuf/cmd/protoc-gen-go && \
		go build -modfile=../tools/go.mod -o /dev/null google.golang.org/grpc/cmd/protoc-gen-go-grpc
tools-modules:
	cd tools && go build ./...
tools-api: # needs no tool before there is a tag to compare with
	@if git describe --tags --abbrev=0 --match 'v[0-9]*' HEAD^ >/dev/null 2>&1; then why=$$(go run $(APIDIFF) -h 2>&1) || { echo "$$why"; exit 1; }; fi

GOVULNDB ?= https://vuln.go.dev

# It ends with exit code 3 for a vulnerability, and with 1 when the search failed.
vuln: ## Look for known vulnerabilities in the code that is called; GOVULNDB names another copy of the database, such as file:///folder
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && GOBIN="$$dir" go install golang.org/x/vuln/cmd/govulncheck@v1.9.0 && \
		{ "$$dir/govulncheck" -db "$(GOVULNDB)" ./... || { code=$$?; [ $$code = 3 ] || \
			echo "vuln: the search failed; if the database $(GOVULNDB) can't be reached from here, name a copy with GOVULNDB=URL" >&2; exit $$code; }; }

proto: ## Generate the code of the wire protocol, unless the .proto files break it
	cd proto && $(BUF) lint && $(BUF) breaking --against kisgrid.binpb && $(BUF) generate
	cd proto && $(BUF) generate --template buf.gen.http.yaml
	cd tools/openapi && go run . ../../proto/gateway/kisgrid.swagger.json ../../proto/http-rows.json ../../proto/gateway/openapi.json
	cd proto && sha256sum kisgrid/v1/*.proto kisgrid/v1/*.pb.go http.yaml http-rows.json gateway/*.json gateway/kisgrid/v1/*.go > SHA256SUMS

# These take minutes to build, so that proto-check compares only checksums where they are not in Go's cache.
GATEWAY_TOOLS = github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2

proto-check: ## Fail when the generated code does not match the .proto files, or these break the protocol or the style
	cd proto && $(BUF) lint && $(BUF) format --diff --exit-code && $(BUF) breaking --against kisgrid.binpb && sha256sum --quiet --check SHA256SUMS
	@generated=$$(mktemp -d) && trap 'rm -rf "$$generated"' EXIT && \
		(cd proto && $(BUF) generate -o "$$generated") && \
		for file in proto/kisgrid/v1/*.pb.go; do diff -u "$$file" "$$generated/kisgrid/v1/$${file##*/}" || exit 1; done
	@if ! (cd proto && GOPROXY=off timeout 30 go build -modfile=../tools/go.mod -o /dev/null $(GATEWAY_TOOLS)) 2>/dev/null; then \
		echo "proto-check: the tools that make proto/gateway are not built here, so only its checksums were compared"; exit 0; fi; \
		generated=$$(mktemp -d) && trap 'rm -rf "$$generated"' EXIT && \
		(cd proto && $(BUF) generate --template buf.gen.http.yaml -o "$$generated") && \
		(cd tools/openapi && go run . "$$generated/gateway/kisgrid.swagger.json" ../../proto/http-rows.json "$$generated/gateway/openapi.json") && \
		diff -ru --exclude=openapi.go proto/gateway "$$generated/gateway"

proto-freeze: ## Freeze the wire protocol as it is: for a release, not for hiding a break
	cd proto && $(BUF) build --as-file-descriptor-set --exclude-source-info -o kisgrid.binpb

console-pictures: ## Make the pictures of docs/console.md, in Chromium
	KISGRID_SCREENSHOTS="$(CURDIR)/docs/pictures" go test -count=1 -timeout 10m -run '^TestConsole$$' ./e2e/console

bench: ## Run the benchmarks that match BENCH
	go test -run '^$$' -bench '$(BENCH)' -benchmem -p 1 ./...

# make test runs a minute of it. A run prints its seed.
SOAK_FOR  ?= 10m
SOAK_RATE ?= 160
SOAK_SEED ?= $(shell date +%s)

# make test runs a quarter of it.
ONCE_ROWS ?= 1000000
ONCE_SEED ?= $(shell date +%s)

soak-once: ## Kill and stop workers while ONCE_ROWS rows take effect, some of which are sent again: ONCE_SEED
	go test -run '^TestOnce$$' -v -timeout 0 ./e2e/once -once.rows $(ONCE_ROWS) -once.seed $(ONCE_SEED)

# make test runs 50 of them.
JOIN_ROUNDS   ?= 1000
JOIN_STUDENTS ?= 100
JOIN_SEED     ?= $(shell date +%s)

soak-join: ## Join the students' two flows JOIN_ROUNDS times, JOIN_STUDENTS rows each, a worker killed each time, from JOIN_SEED
	go test -run '^TestJoin$$' -v -timeout 0 ./e2e/once -join.calm 0 -join.rounds $(JOIN_ROUNDS) -join.students $(JOIN_STUDENTS) -join.seed $(JOIN_SEED)

RECORD_ROWS ?= 10000000

# make test runs a fiftieth of it.
WAKE_PAIRS ?= 1000000

soak-wakeups: ## Have WAKE_PAIRS Saves and Waits of the same keys race on a real Redis
	go test -run '^TestConformance$$/^wait_races_save$$' -v -timeout 0 ./pkg/connector/redis -pairs $(WAKE_PAIRS)

soak-records: ## Count the records that Redis keeps of RECORD_ROWS rows
	go test -run '^TestRecordsAreBounded$$' -v -timeout 0 ./pkg/connector/redis -records.rows $(RECORD_ROWS)

WINDOW_ROUNDS ?= 2000
WINDOW_SEED   ?= $(shell date +%s)

soak-windows: ## Go through WINDOW_ROUNDS histories of once-windows that differ and change, from WINDOW_SEED
	go test -run '^TestWindowsAtRandom$$' -v -timeout 0 ./pkg/connector/redis -windows.rounds $(WINDOW_ROUNDS) -windows.seed $(WINDOW_SEED)

soak-config: ## Change definitions under load for SOAK_FOR, SOAK_RATE versions a minute, from SOAK_SEED
	go test -run '^TestSoak$$' -v -timeout 0 ./e2e/live -soak.for $(SOAK_FOR) -soak.rate $(SOAK_RATE) -soak.seed $(SOAK_SEED)

# make test runs four of them, within 300ms of an apply.
REVISION_ROUNDS ?= 200
REVISION_WAIT   ?= 10s
REVISION_SEED   ?= $(shell date +%s)

soak-revisions: ## Have etcd lose its data, or go back to a copy, within REVISION_WAIT of an apply, REVISION_ROUNDS times, from REVISION_SEED
	go test -run '^TestRevisionRounds$$' -v -timeout 0 ./pkg/coordinator -revisions.rounds $(REVISION_ROUNDS) -revisions.wait $(REVISION_WAIT) -revisions.seed $(REVISION_SEED)
	go test -run '^TestEtcdLost$$' -v -timeout 0 ./e2e/upgrade -lost.rounds $(REVISION_ROUNDS) -lost.wait $(REVISION_WAIT) -lost.seed $(REVISION_SEED)

# Go tries to make an input smaller for at most 100 tries: its default of a minute for each input would leave little time for fuzzing.
fuzz: ## Run each fuzz test for FUZZTIME
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x "$$(dirname $$file)"; \
		done; \
	done

WORLD_SEED ?= $(shell date +%s)
SEEDS      ?= 1000
TIME       ?= 0
SHRINK     ?= 2m

# The build's random choices repeat with the seed. Go's runtime is built anew for it, which takes minutes the first time. A breach's script
# goes into bin/world. WORLD are more flags of the test, such as -world.first or -world.repeat 20: see go test ./internal/world -args -help.
world: ## Live through SEEDS simulated lives of a whole cluster, from WORLD_SEED, for TIME; or through a SCRIPT; SHRINK, WORLD
	@mkdir -p bin/world && go run ./internal/world/seeded -o bin/world && \
		CGO_ENABLED=0 go test -c -overlay bin/world/overlay.json -o bin/world/world.test ./internal/world
	cd internal/world && ../../bin/world/world.test -test.run '^TestWorld$$' -test.timeout 0 -world.folder ../../bin/world -world.json ../../bin/world/summary.json \
		-world.seeds $(SEEDS) -world.seed $(WORLD_SEED) -world.time $(TIME) -world.shrink $(SHRINK) $(if $(SCRIPT),-world.script $(abspath $(SCRIPT))) $(WORLD)

sim: ## Simulate coordinators and workers in virtual time: SIM_ROWS, SIM_WORKERS, SIM_COORDINATORS, SIM_SEED
	go test ./pkg/scheduler -run TestSim -v -timeout 12h -sim.twice=false -sim.check=10000 \
		-sim.rows=$(SIM_ROWS) -sim.workers=$(SIM_WORKERS) -sim.coordinators=$(SIM_COORDINATORS) -sim.seed=$(SIM_SEED)

growth: ## Measure with real processes how the cost of a row grows: SERIES (all, or names of them, separated by commas), GROWTH_FOR
	go test ./bench -run '^TestGrowth$$' -count=1 -timeout 3h -growth $(SERIES) -growth.for $(GROWTH_FOR)

sim-steps: ## Print the scheduler's longest step for each event of one of 1,000 workers that has SIM_BATCHES small batches
	go test ./pkg/scheduler -run TestStepsAreShort -v -timeout 1h -long.workers=1000 -long.batches=$(SIM_BATCHES)

settle: ## Change a function that 2,400 flows share, and print how long it takes until all run on it
	go test ./pkg/coordinator -run TestSharedFunctionSettles -v -settle.flows=2400

outputs: ## Have functions make a thousand times as many bytes of OUTPUT_BATCHES batches, and print the memory of worker and coordinator
	go test ./e2e/overload -run TestOutputsStayInBudget -v -timeout 1h -outputs.batches=$(OUTPUT_BATCHES)

chaos: ## Kill, stop and cut off real processes under load for CHAOS_TIME: CHAOS_RATE rows per second, CHAOS_SEED
	go test ./e2e/chaos -v -timeout 0 -chaos.gap=2s -chaos.patience=12s -chaos.open=0 -chaos.duration=$(CHAOS_TIME) -chaos.rate=$(CHAOS_RATE) -chaos.seed=$(CHAOS_SEED)

# KUBECONFIG names a cluster that the tests may break. LOAD is a command that loads an image archive into it. E2E_K8S are more flags of
# the tests, such as -run TestOneNode or -k8s.volumes /dev/shm/kisgrid: see go test ./e2e/k8s -args -help.
e2e-k8s: ## Break a Kubernetes cluster under load: KUBECONFIG, LOAD, E2E_K8S
	LOAD="$(LOAD)" ./e2e/k8s/images.sh
	go test -count=1 -v -timeout 0 ./e2e/k8s -kubeconfig "$(KUBECONFIG)" $(E2E_K8S)
