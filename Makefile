# make setup | train | test | lint | board | clean.  PYTHON=... picks the Python, ARGS="..." goes to train.py or pytest.

ifndef PYTHON
PYTHON := $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
endif
BIN := .venv/bin
STAMP := .venv/requirements.stamp
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))

.PHONY: setup train test lint board clean

setup: $(STAMP)

# An environment without a working pip is one whose making was cut off: it is made anew.
$(STAMP): requirements.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		"$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null || { \
			echo "TensorFlow has no wheel for this Python ($(PYTHON): $$("$(PYTHON)" --version 2>&1 || true))." \
				"Use 3.10 to 3.13: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
		"$(PYTHON)" -m venv --clear .venv; }
	$(BIN)/python -m pip install --no-input --disable-pip-version-check -r requirements.txt
	@touch $@

train: setup
	$(BIN)/python train.py --flagfile=configs/digits.cfg --workdir=runs/digits --resume $(ARGS)

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: setup
	$(BIN)/python -m ruff check
	$(BIN)/lint-imports --no-cache

board: setup
	$(BIN)/tensorboard --logdir runs

clean:
	rm -rf .venv build *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
