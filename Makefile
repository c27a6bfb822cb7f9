# make demo   sets everything up, then five processes draw digits together (runs/score-inference/report.html)
# make test   sets everything up, then ruff, mypy and the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS ?= 600
READY := $(VENV)/ready

# What is compiled is kept, whatever the shell says: commands that tests start, and the next run's collection, find it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow lint bench soak fuzz audit constraints wheel clean

demo: $(READY)
	$(BIN)/fednet launch score-inference

test: lint
	$(BIN)/pytest -q -m "not slow" -n auto --dist loadfile --no-loadscope-reorder

test-slow: $(READY)
	$(BIN)/pytest -q -m slow -n auto --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -n 2

bench: $(READY)
	$(BIN)/python tests/benchmarks/bench_query.py
	$(BIN)/python tests/benchmarks/bench_sampling.py
	$(BIN)/python tests/benchmarks/bench_start.py
	$(BIN)/python tests/benchmarks/bench_round.py
	$(BIN)/python tests/benchmarks/bench_secure.py
	$(BIN)/python tests/benchmarks/bench_security.py
	$(BIN)/python tests/benchmarks/others.py

# About forty minutes, twice ten of them (SECONDS) among liars; tests/soak/README.md says what it shows, and what takes longer.
soak: $(READY)
	$(BIN)/pytest -q -s -m slow tests/nodes/rounds/test_rounds.py
	$(BIN)/python tests/soak/kills.py
	$(BIN)/python tests/soak/slow.py
	$(BIN)/python tests/soak/networks.py
	$(BIN)/python tests/soak/hostile.py
	$(BIN)/python tests/soak/keyed.py
	$(BIN)/python -m tests.soak.byzantine --seconds $(SECONDS)
	$(BIN)/python -m tests.soak.byzantine --seconds $(SECONDS) --sums

# SECONDS as long as one likes, divided among the readers of foreign bytes; an input that breaks one is kept in runs/fuzz.
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.fuzz --seconds $(SECONDS)

# Whether a version in constraints.txt has a known weakness; asks a service on the network.
audit: $(READY)
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

# The versions that are installed, and the hashes of their files, anew from pyproject.toml; those that still fit stay, unless
# UPGRADE=--upgrade, or for one package UPGRADE='--upgrade-package NAME'.
UPGRADE ?=
constraints: $(READY)
	UV_CUSTOM_COMPILE_COMMAND="make constraints" $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
		--extra all --extra dev --generate-hashes --no-annotate --quiet $(UPGRADE) --output-file constraints.txt

# The same bytes from the same sources, whenever and wherever: the time in it is that of the last commit.
wheel: $(READY)
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m hatchling build -t wheel

# Says what an interpreter is, where it is none that fednet runs with; any Python can run it.
CHECK := import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
	"fednet needs Python 3.11 or later, and this is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])

# A virtual environment whose interpreter or pip does not run, or is too old, is made anew.
ifneq ($(wildcard $(VENV)),)
ifneq ($(shell $(BIN)/python -c '$(CHECK)' 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1 && echo fine),fine)
$(shell rm -rf $(VENV))
endif
endif

# Installed once, with the exact versions that were tested, by the hashes of their files; again only when these two change.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(CHECK)'
	@echo "fednet and what it needs are installed into $(VENV): several minutes, a line for each package"
	test -d $(VENV) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --require-hashes --requirement constraints.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) runs dist build .pytest_cache .mypy_cache .ruff_cache
