# Two commands do everything on a fresh machine with Python 3.11 or newer, make and git: `make demo` and `make test`.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test lint bench bench-faults bench-storm clean

demo: .venv/installed
	$(BIN)/python dags_examples/demo.py

test: .venv/installed
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python benchmarks/run.py

bench-faults: .venv/installed
	$(BIN)/python benchmarks/run.py faults

bench-storm: .venv/installed
	$(BIN)/python benchmarks/run.py storm

# One environment for all of them, made anew when what it is made from changes.
.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, but none was found. Set PYTHON=/path/to/python."; exit 1; }
	rm -rf .venv
	if command -v uv >/dev/null; then \
		uv venv --quiet --python $(PYTHON) .venv && \
		uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; \
	else \
		$(PYTHON) -m venv .venv && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'; \
	fi
	touch $@

clean:
	rm -rf .venv .demo
