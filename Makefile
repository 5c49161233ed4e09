.PHONY: demo test test-on-ray test-without-ray lint docs bench bench-long bench-methods bench-ablations bench-gpu clean
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

# Under ten minutes on two cores; says where it differs from benchmarks/figures.json by more than noise.
bench: .venv/installed
	$(BIN)/python benchmarks/quick.py

# About three hours on two cores. Accuracies first, two at a time: other work does not change them; then what is timed.
bench-long: .venv/installed
	$(MAKE) --jobs 2 bench-methods bench-ablations
	$(BIN)/python benchmarks/methods/step_times.py
	$(BIN)/python benchmarks/methods/compare.py --picture
	$(BIN)/python benchmarks/sweep_overhead.py
	$(BIN)/python benchmarks/sweep_scale.py
	$(BIN)/python benchmarks/time_budget.py
	$(BIN)/python benchmarks/report_page.py
	$(BIN)/python benchmarks/search/record.py

bench-methods: .venv/installed
	$(BIN)/python benchmarks/methods/run.py

bench-ablations: .venv/installed
	$(BIN)/python benchmarks/ablations/run.py
	$(BIN)/python benchmarks/ablations/run.py --task digits

# On a machine with a GPU; the Python that runs it needs torch, timm and pydantic, not ray: make bench-gpu PYTHON=python3
bench-gpu:
	PYTHONPATH=. $(PYTHON) benchmarks/quick.py --gpu

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
