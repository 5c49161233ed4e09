.PHONY: demo test test-on-ray test-without-ray lint docs bench clean
PYTHON ?= python3
BIN := .venv/bin
export RAY_USAGE_STATS_ENABLED := 0

# Installed once; again when what is to be installed changes.
.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

demo: .venv/installed
	$(BIN)/python examples/demo.py

test: .venv/installed
	$(MAKE) --jobs 2 test-on-ray test-without-ray

test-on-ray: .venv/installed
	$(BIN)/python -m pytest -m ray

test-without-ray: .venv/installed
	$(BIN)/python -m pytest -m "not ray" --numprocesses 2

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in site/: open site/index.html, or see it change with `.venv/bin/mkdocs serve`.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/installed
	$(BIN)/python benchmarks/elastic_speed.py
	$(BIN)/python benchmarks/small_stages.py
	$(BIN)/python benchmarks/search/replay.py
	$(BIN)/python benchmarks/sweep_sharing.py
	$(BIN)/python benchmarks/sweep_overhead.py

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
