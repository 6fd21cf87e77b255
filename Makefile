# The commands of this repository. `make` alone prints them.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/weir
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# A fresh clone in CI reuses the compiled dependencies of the run before it.
ifeq ($(CI),true)
export CARGO_TARGET_DIR ?= $(CACHE)/target
# A clone is compiled once: what would make a second build of it faster only fills the disk.
export CARGO_INCREMENTAL := 0
endif
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help deps build dist image crds manifests up env test fuzz crash-states kills bench bench-core bench-jetstream down

help: ## This list.
	@echo "Weir: a Kubernetes operator and a NATS-compatible broker."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## Installs the Debian packages that the other commands need, where they are missing.
	@e2e/deps

build: ## Builds the workspace for development.
	cargo build --workspace

dist: ## Builds the static release binaries into dist/.
	@e2e/dist "$(HOST)" "$(TARGET)"

image: dist ## Builds the two container images into dist/*.tar.
	@e2e/kube/image weir:dev weir dist/weir-image.tar
	@e2e/kube/image weir-operator:dev weir-operator dist/weir-operator-image.tar

crds: ## Regenerates crds/ and the chart's copy from the Rust types.
	@manifests/generate crds

manifests: crds ## Regenerates manifests/weir.yaml from the chart.
	@manifests/generate manifests

up: ## Everything from nothing: builds, a local Kubernetes, the chart, the samples, a first run.
	@e2e/up

env: ## Shell settings for the local Kubernetes: eval "$$(make -s env)".
	@e2e/kube/env

test: ## All that CI checks: format, clippy, unit, compatibility, crash, browser, Kubernetes.
	@e2e/check

fuzz: ## Fuzzes what reads bytes from outside, FUZZ_SECONDS (60) a target; TARGET names one.
	@e2e/fuzz/run $(if $(filter command,$(firstword $(origin TARGET))),$(TARGET))

# The storage stack is compiled with optimisation for this, its dependencies are as in `make test`.
crash-states: ## Starts the storage stack on states that power cuts leave (STATES=1000000 SEED=1).
	CRASH_STATES=$(or $(STATES),1000000) CRASH_SEED=$(or $(SEED),1) cargo test --locked \
	  $(foreach crate,storage jetstream messages subject jetstream-node,--config 'profile.dev.package.weir-$(crate).opt-level=2') \
	  -p weir-jetstream-node --lib no_crash_loses -- --nocapture

kills: dist ## kill -9 under load, KILLS (200) times with one replica and with three; every ack is checked.
	CRASH_KILLS=$(or $(KILLS),200) e2e/run crash -- -k lose -s

bench: bench-core bench-jetstream ## Both benches.

bench-core: dist ## Core NATS beside nats-server, judged by its bars (ROUNDS= ONLY= SCALE=).
	@e2e/run bench-core

bench-jetstream: dist ## JetStream, synced before acked, beside nats-server, judged by its bars (ROUNDS= ONLY= SCALE=).
	@e2e/run bench-jetstream

down: ## Stops the local Kubernetes of `make up` and removes what it left.
	@e2e/kube/down
