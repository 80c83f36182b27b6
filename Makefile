# Two commands do everything on a fresh machine with Python 3.11 or newer, make and git: `make demo` and `make test`.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test test-all lint simulate simulate-mutations bench bench-export bench-faults bench-mapped bench-storm \
	test-celery test-s3 matrix docs clean

demo: .venv/installed
	$(BIN)/python dags_examples/demo.py

# What runs before each commit, on all cores: no real Airflow but that of one smoke test.
QUICK := tests/unit tests/integration tests/simulation tests/system/test_smoke.py
test: .venv/installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(QUICK) $(ARGS)

# The rest: schedulers, killed and throttled tasks, deferral, the wheel, the examples of the documents, a browser.
test-all: .venv/installed
	$(BIN)/python -m pytest tests/system tests/browser --ignore tests/system/test_smoke.py $(ARGS)

# Worlds of Batch, Airflow and DAG authors from seeds, on all cores: make simulate WORLDS=1000000 SEED=1
WORLDS ?= 100000
SEED ?= 1
simulate: .venv/installed
	PYTHONPATH=tests $(BIN)/python -m simulation --worlds $(WORLDS) --seed $(SEED)

# Faults put into a copy of the package, one at a time: the simulator must find each.
simulate-mutations: .venv/installed
	PYTHONPATH=tests $(BIN)/python -m simulation.mutations

# The tests with every version of Airflow that is supported, each in an environment of its own.
matrix: .venv/installed
	$(BIN)/python tests/matrix.py $(ARGS)

# CeleryExecutor with two workers, on a private Redis and a private PostgreSQL.
test-celery: .celery/installed
	sh tests/celery/debian.sh
	.celery/bin/python -m pytest tests/celery -s $(ARGS)

# Exports to S3, for which moto's server stands in.
test-s3: .s3/installed
	.s3/bin/python -m pytest tests/s3 $(ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/documents.py

# The documents as a site, with the reference of the API: site/index.html. A broken link fails the build.
docs: .docs/installed
	NO_MKDOCS_2_WARNING=1 .docs/bin/python -m mkdocs build --strict --quiet

bench: .venv/installed
	$(BIN)/python benchmarks/run.py

bench-faults: .venv/installed
	$(BIN)/python benchmarks/run.py faults

bench-export: .venv/installed
	$(BIN)/python benchmarks/run.py export

bench-mapped: .venv/installed
	$(BIN)/python benchmarks/run.py mapped

bench-storm: .venv/installed
	$(BIN)/python benchmarks/run.py storm

# An environment is made anew when what it is made from changes. $(1): its folder; $(2): what pip installs; $(3): the
# constraints, if not constraints.txt.
define environment
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, but none was found. Set PYTHON=/path/to/python."; exit 1; }
	rm -rf $(1)
	if command -v uv >/dev/null; then \
		uv venv --quiet --python $(PYTHON) $(1) && \
		uv pip install --quiet --python $(1)/bin/python --constraint $(or $(3),constraints.txt) $(2); \
	else \
		$(PYTHON) -m venv $(1) && \
		$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint $(or $(3),constraints.txt) $(2); \
	fi
	touch $@
endef

.venv/installed: pyproject.toml constraints.txt
	$(call environment,.venv,--editable '.[dev]')

CELERY := apache-airflow-providers-celery asyncpg psycopg2-binary pytest
.celery/installed: pyproject.toml constraints.txt tests/celery/constraints.txt
	$(call environment,.celery,--constraint tests/celery/constraints.txt --editable '.[sandbox]' $(CELERY))

# botocore allows no python-dateutil of version 3 and later, which constraints.txt has: versions of its own.
S3 := 'apache-airflow-providers-amazon[s3fs]' 'moto[s3]' flask flask-cors pytest pytest-socket time-machine
.s3/installed: pyproject.toml tests/s3/constraints.txt
	$(call environment,.s3,--editable '.[sandbox]' $(S3),tests/s3/constraints.txt)

# ruff lays out the signatures.
SITE := mkdocs mkdocs-material mkdocstrings-python ruff
.docs/installed: constraints.txt docs/constraints.txt
	$(call environment,.docs,--constraint docs/constraints.txt $(SITE))

clean:
	rm -rf .venv .celery .s3 .docs .matrix .demo site
