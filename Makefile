# Main targets: `make run` and `make test`. Both set up whatever is missing.

.DEFAULT_GOAL := help
.PHONY: help setup model test-model components test-components handlers host build run test test-deploy lint format bench accuracy clean

COMPONENTS := analyze audio stats
TEST_COMPONENTS := word-count word-count-p3 probe-messages probe-run probe-spin probe-wasi02 probe-wasi03
HOST := target/release/whisper-host

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## download ONNX Runtime into .tools/, check for a compiler and pip
	@sh scripts/setup.sh

# WHISPER_HOST_MODEL selects another model, which the host finds itself.
model: ## download the Whisper model base into .tools/models/
	@[ -n "$$WHISPER_HOST_MODEL" ] || sh scripts/setup-models.sh base

test-model: ## download the model that tests use, tiny.en
	@sh scripts/setup-models.sh tiny.en

components: ## build the WebAssembly components into target/components/
	@sh scripts/build-components.sh $(COMPONENTS)

test-components: ## build the components that only tests use
	@sh scripts/build-components.sh $(COMPONENTS) $(TEST_COMPONENTS)

# Always the whole workspace, which determines the features that dependencies are built with: `run` and `test` share a build.
host: setup ## build the host, target/release/whisper-host
	@cargo build --release --locked --target-dir target --workspace --bin whisper-host

build: host components model ## build everything and fill the cache of compiled components
	@$(HOST) check --log warn

run: build ## serve on http://localhost:8000
	@exec $(HOST) up

handlers: host ## build the examples, as projects created by `whisper-host new`, into target/components/
	@sh scripts/build-handlers.sh

test: setup test-model test-components handlers ## run all tests
	@sh scripts/setup-servers.sh
	cargo test --release --locked --target-dir target --workspace

test-deploy: ## check the Helm chart in k8s/ with Helm and the schemas of Kubernetes
	@sh scripts/setup-deploy.sh
	@python=.tools/deploy/bin/python; [ -x $$python ] || python=python3; $$python scripts/check-chart.py

lint: ## formatting, dependency cycles between files, and clippy, over host and components
	cargo fmt --all --check
	python3 scripts/check-cycles.py
	cargo clippy --locked --workspace --all-targets -- -D warnings
	sh scripts/check-capability.sh

format: ## format all code
	cargo fmt --all

bench: build ## run the benchmarks side by side with peers; prints ratios
	@sh bench/run.sh

accuracy: build ## count word errors on recordings of people, compared with faster-whisper
	@sh bench/accuracy/run.sh

clean: ## remove everything that was built or downloaded
	rm -rf target .tools
