# `make demo` and `make test` do all the set-up themselves; they need Python 3.11 or newer and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCS := $(VENV)/.docs
WORKERS ?= 2

# Keep the repository's folders off sys.path: another package is called `datasets` too.
export PYTHONSAFEPATH := 1

# A script in the parent folder of a clone named `orl` would import the clone itself, as a namespace package. A regular
# package that is found by its path goes before: a folder on the path that holds a link to `orl/` and nothing else.
define LINK
mkdir -p .link && ln -sfn ../orl .link/orl && \
$(BIN)/python -c 'import pathlib, sys, sysconfig; \
pathlib.Path(sysconfig.get_path("purelib"), "orl-link.pth").write_text(sys.argv[1] + "\n")' "$(CURDIR)/.link"
endef

.PHONY: help install lint test slow demo docs clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED)  ## a virtual environment in .venv, with the versions of constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "orl needs Python 3.11 or newer, and $(PYTHON) is not; name another: make install PYTHON=python3.12" >&2; \
		exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): a minute or two, more where torch has to be fetched"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@$(LINK)
	@touch $@

lint: install  ## ruff, mypy (strict), and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install  ## the tests, minutes; WORKERS=N processes
	$(BIN)/pytest -n $(WORKERS)

slow: install $(DOCS)  ## the tests that learn for minutes
	$(BIN)/pytest -n $(WORKERS) -m slow

demo: install  ## the main job: a policy from 1 % of the rewards; table and figures in runs/demo
	$(BIN)/orl demo --out runs/demo

docs: $(DOCS)  ## the site: open docs/_build/html/index.html
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --builder html docs docs/_build/html

$(DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

clean:  ## remove what was built or cached; runs/ and .venv stay
	rm -rf build dist docs/_build *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find orl agents envs datasets scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
