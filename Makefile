.PHONY: demo test test-on-ray test-without-ray test-nightly test-lowest lint reference docs bench bench-long bench-methods bench-ablations bench-searches bench-fashion bench-gpu clean
PYTHON ?= python3
BIN := .venv/bin
export RAY_USAGE_STATS_ENABLED := 0

# uv takes a seventh of pip's time. It does not read pip's settings: where it does not reach a package index, pip installs.
install = $(1)/bin/pip install --quiet uv --constraint constraints.txt && \
  $(1)/bin/uv pip install --quiet --python $(1)/bin/python $(2) || $(1)/bin/pip install --quiet $(2)

# The environment is made once, and again when the requirements change.
DEV := --editable '.[dev]' --constraint constraints.txt
.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(call install,.venv,$(DEV))
	touch $@

demo: .venv/installed
	$(BIN)/python examples/demo.py

test: .venv/installed
	$(MAKE) --jobs 2 test-on-ray test-without-ray

# Only the files of these tests are read: importing all takes 20 seconds of a core.
RAY_TESTS = $(shell grep --recursive --files-with-matches --include='test_*.py' --extended-regexp 'mark\.ray\b|RAY_SWEEP_MARKS' tests)
test-on-ray: .venv/installed
	$(BIN)/python -m pytest -m "ray and not nightly" $(RAY_TESTS)

test-without-ray: .venv/installed
	$(BIN)/python -m pytest -m "not ray and not nightly" --numprocesses 2

# Sweeps of several minutes, what takes longest without Ray, and every check of every family of models; more than an hour.
test-nightly: .venv/installed
	$(BIN)/python -m pytest -m nightly
	EXPLORER_EXHAUSTIVE=1 $(BIN)/python -m pytest tests/elastic/test_contract.py --numprocesses 2

# Parts of the package that depend on details of other packages, with the lowest versions that setup.cfg allows.
LOWEST_TESTS := tests/spec tests/ledger tests/frontier tests/test_plan.py tests/test_cost.py tests/elastic/test_model.py \
  tests/elastic/test_growth.py $(wildcard tests/elastic/test_internals.py) tests/training/test_stage_store.py \
  tests/report/test_page.py tests/sweep/test_loopback.py tests/production/test_lightning.py \
  tests/production/test_transformers.py tests/examples/test_launch_sweep.py

LOWEST := --editable '.[lightning,transformers,hfds]' pytest pytest-timeout hypothesis --constraint constraints-lowest.txt
.venv-lowest/installed: setup.cfg constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	$(call install,.venv-lowest,$(LOWEST))
	touch $@

test-lowest: .venv-lowest/installed
	.venv-lowest/bin/python -m pytest $(LOWEST_TESTS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Write the reference pages that are made from the code. A test fails if they are out of date.
reference: .venv/installed
	$(BIN)/python docs/_reference.py

# Build the site in site/. `.venv/bin/mkdocs serve` shows changes while they are made.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Takes less than ten minutes on two cores; names what differs from benchmarks/figures.json by more than noise.
bench: .venv/installed
	$(BIN)/python benchmarks/quick.py

# Takes more than a day on two cores, most of it for bench-fashion and the transfer study. What keeps results trains only what is
# missing: remove the results to make them anew. Accuracies come first, two runs in parallel; timings follow.
bench-long: .venv/installed
	$(MAKE) --jobs 2 bench-methods bench-ablations bench-searches bench-fashion
	$(BIN)/python benchmarks/methods/step_times.py
	$(BIN)/python benchmarks/methods/compare.py --picture
	$(BIN)/python benchmarks/fashion_mnist/step_times.py
	$(BIN)/python benchmarks/fashion_mnist/compare.py --picture
	$(BIN)/python benchmarks/currency.py --run
	$(BIN)/python benchmarks/interruptions/run.py --run
	$(BIN)/python benchmarks/growth_pause.py
	$(BIN)/python benchmarks/sweep_overhead.py
	$(BIN)/python benchmarks/sweep_scale.py
	$(BIN)/python benchmarks/time_budget.py
	$(BIN)/python benchmarks/input_rates.py
	$(BIN)/python benchmarks/staged_input.py
	$(BIN)/python benchmarks/compiled_stages.py
	$(BIN)/python benchmarks/report_page.py

bench-methods: .venv/installed
	$(BIN)/python benchmarks/methods/run.py

bench-ablations: .venv/installed
	$(BIN)/python benchmarks/ablations/run.py
	$(BIN)/python benchmarks/ablations/run.py --task digits
	$(BIN)/python benchmarks/ablations/paper.py --task digits
	$(BIN)/python benchmarks/ablations/paper.py --task fractals
	$(BIN)/python benchmarks/one_trunk.py --run

bench-searches: .venv/installed
	$(BIN)/python benchmarks/search/record.py --processes 1
	$(BIN)/python benchmarks/less_than_one/run.py --run

# Needs EXPLORER_FASHION_MNIST, the folder that `python benchmarks/fashion_mnist/prepare.py FOLDER` fills.
bench-fashion: .venv/installed
	$(BIN)/python benchmarks/fashion_mnist/run.py
	$(BIN)/python benchmarks/search/record.py --task fashion --processes 1
	$(BIN)/python benchmarks/less_than_one/run.py --run --tasks fashion
	$(BIN)/python benchmarks/ablations/paper.py --task fashion
	$(BIN)/python benchmarks/transfer/run.py --run --seeds 3

# Needs a GPU, and a Python with torch, timm and pydantic (but not ray): make bench-gpu PYTHON=python3
bench-gpu:
	PYTHONPATH=. $(PYTHON) benchmarks/quick.py --gpu

clean:
	rm -rf .venv .venv-lowest build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
