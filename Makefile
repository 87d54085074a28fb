# On a fresh machine `make demo` and `make test` do everything: they make .venv first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo docs flagship test test-slow lint format bench install

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(RUN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(RUN)/hardy demo --out runs/demo

test: $(STAMP)
	$(RUN)/pytest -n auto --dist worksteal

test-slow: $(STAMP)
	$(RUN)/pytest -n auto --dist loadgroup -m slow

lint: $(STAMP)
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/pyright

format: $(STAMP)
	$(RUN)/ruff check --fix
	$(RUN)/ruff format

# Trains, measures and writes the bundle that comes with hardy. What is in runs/flagship is not made again.
SHIPPED := src/hardy/deployment/shipped/flagship

flagship: $(STAMP)
	$(RUN)/hardy train flagship-quick --out runs/flagship --resume
	$(RUN)/python benchmarks/flagship.py measure runs/flagship
	rm -rf $(SHIPPED)
	$(RUN)/hardy bundle runs/flagship --out $(SHIPPED)

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict --quiet

bench: $(STAMP)
	$(RUN)/python benchmarks/train_speed.py
