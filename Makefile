# make setup | train | test | fuzz MINUTES=30 | kill-test N=100 | lint | docs | board | clean.  PYTHON=... picks the
# Python, ARGS="..." goes to train.py or pytest.

ifndef PYTHON
PYTHON := $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
endif
BIN := .venv/bin
STAMP := .venv/setup.stamp
LINTED := build/lint
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
# Fails where nothing is known of a release that is known to be vulnerable, as on a mirror.
KNOWS := import json, urllib.request as u; \
	assert json.load(u.urlopen('https://pypi.org/pypi/jinja2/2.10/json', timeout=10))['vulnerabilities']
UNDER_KERAS_2 := $(addprefix tests/test_,$(addsuffix .py,conformance drop_in golden graph \
	lstm_baselines optimizers recurrent safety shapes sparsemax))

.PHONY: setup train test fuzz kill-test lint docs board clean

setup: $(STAMP)

# An environment without a working pip is one whose making was cut off: it is made anew.
$(STAMP): requirements.txt pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		"$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null || { \
			echo "TensorFlow has no wheel for this Python ($(PYTHON): $$("$(PYTHON)" --version 2>&1 || true))." \
				"Use 3.10 to 3.13: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
		"$(PYTHON)" -m venv --clear .venv; }
	$(BIN)/python -m pip install --no-input --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --no-input --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

train: setup
	$(BIN)/python train.py --flagfile=configs/digits.cfg --workdir=runs/digits --resume $(ARGS)

# All of it under Keras 3, then what shows that Keras 2 does the same. ARGS picks tests of the first.
test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)
	$(if $(ARGS),,TF_USE_LEGACY_KERAS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(UNDER_KERAS_2))

# So many kills of a training, an export, an evaluation and a drawing; N=100 by default.
kill-test: setup
	$(BIN)/python -m benchmarks.killed --kills=$(or $(N),100)

# New inputs, right and wrong ones, of all that reads what a user gives; those that fail go to build/fuzz.
fuzz: setup
	$(BIN)/python -m tests.fuzz --minutes=$(or $(MINUTES),30) $(ARGS)

# The contracts of the imports are checked on the package as it is shipped, which has all folders in one.
lint: setup
	$(BIN)/python -m ruff check
	@rm -rf $(LINTED)
	@$(BIN)/python -c "import setuptools; setuptools.setup()" -q build_py --build-lib=$(LINTED)
	@cp pyproject.toml $(LINTED)
	cd $(LINTED) && ../../$(BIN)/lint-imports --no-cache
	@if $(BIN)/python -c "$(KNOWS)" 2>/dev/null; then \
		$(BIN)/python -m pip_audit --requirement=requirements.txt --no-deps --disable-pip --progress-spinner=off; \
	else echo "pip-audit: skipped, PyPI's list of vulnerabilities cannot be reached from here"; fi

# Pages in build/site; to search them: .venv/bin/python -m http.server -d build/site
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

board: setup
	$(BIN)/tensorboard --logdir runs

clean:
	rm -rf .venv build *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
