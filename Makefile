# Every target makes the environment it needs (.venv, from the lock constraints.txt) and then works in it.
# The files .venv/.installed-* remember what is installed, so that a second run installs nothing.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
ARGS ?=

# Threads of one process; the test suite runs JOBS processes beside each other.
JOBS ?= 2
COVERAGE := 85

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help train test validate mutants docs check bench format clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'ARGS="..." is handed to the program, for example: make train ARGS="digits-ddpo --dry-run"'

train: $(VENV)/.installed-runtime  ## Fine-tune the embedded diffusion model (about two minutes on two cores)
	$(PY) -m ctcontrol_diffusion.train $(ARGS)

test: $(VENV)/.installed-tests  ## Run the tests; the whole suite also has to cover 85 % of the code
	OMP_NUM_THREADS=1 $(PY) $(if $(ARGS),,-m slipcover) -m pytest -n $(JOBS) --dist loadgroup $(ARGS)
	$(if $(ARGS),,@$(PY) -m slipcover --merge .coverage.json --fail-under $(COVERAGE) || \
		{ echo 'make: the tests cover less than $(COVERAGE) %' >&2; exit 1; })

validate: $(VENV)/.installed-runtime  ## Check every theorem of docs/theory.md, with error bars (about three minutes)
	OMP_NUM_THREADS=1 $(PY) -m validation $(ARGS) --jobs $(JOBS)

mutants: $(VENV)/.installed-tests  ## Break the source one line at a time; the tests must notice
	OMP_NUM_THREADS=1 $(PY) -m tests.mutants $(ARGS) --jobs $(JOBS)

docs: $(VENV)/.installed-docs  ## Build the documentation into site/, without the internet
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet $(ARGS)
	@echo 'make: open site/index.html'

check: $(VENV)/.installed-dev  ## Check style, format, types and who may import whom
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright
	$(VENV)/bin/lint-imports

bench: $(VENV)/.installed-bench  ## Time simulation beside other libraries (about fifteen minutes)
	OMP_NUM_THREADS=1 $(PY) -m pytest benchmarks --benchmark-only --benchmark-timer=time.process_time $(ARGS)

format: $(VENV)/.installed-dev  ## Rewrite the files in the project's format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:  ## Remove the environment and what the tools left behind, never your runs
	rm -rf $(VENV) build dist site .coverage.json .benchmarks .hypothesis \
		.pytest_cache .ruff_cache .import_linter_cache
	find ctcontrol ctcontrol_diffusion validation tests -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment ---------------------------------------------------------------------------------

define create-environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "make: '$(PYTHON)' is not Python 3.11 or newer; name one that is, for example: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
@$(PYTHON) -m venv --clear $(VENV) || { \
	echo "make: '$(PYTHON) -m venv' failed; on Debian and Ubuntu install the package python3-venv" >&2; exit 1; }
endef

# A virtual environment whose interpreter has gone (an upgrade, a moved folder) is made anew.
$(PY):
	$(create-environment)

define install
@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
@echo "make: installing ctcontrol$(1) into $(VENV) (the first time takes a few minutes)"
@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.$(1)'
@touch $@
endef

$(VENV)/.installed-runtime: pyproject.toml constraints.txt $(PY)
	$(call install,)

$(VENV)/.installed-tests: $(VENV)/.installed-runtime
	$(call install,[tests])

$(VENV)/.installed-bench: $(VENV)/.installed-tests
	$(call install,[bench])

$(VENV)/.installed-docs: $(VENV)/.installed-runtime
	$(call install,[docs])

$(VENV)/.installed-dev: $(VENV)/.installed-tests
	$(call install,[dev])
