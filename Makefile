# Two commands for a newcomer; each does all of its own set-up on a fresh machine.
#   make talk   answer the recorded question that ships with the repository, aloud
#   make test   what CI runs: lint, types, tests
# and make test-dist: two training processes, Ray workers and replicas, some of them killed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .venv-clients
# Two cores that spin while they wait for each other are an order of magnitude slower than two that sleep.
export OMP_WAIT_POLICY := PASSIVE
# Debian's packages: speech synthesisers for the tests and for building data, and the browser that tests the page.
TEST_DEBS := espeak-ng flite chromium
DATA_DEBS := espeak-ng flite festival festlex-cmu festvox-us-slt-hts festvox-kallpc16k festvox-kdlpc16k

.PHONY: talk test test-dist check bench data-packages clean

talk: $(VENV)/.installed
	$(BIN)/icebreaker talk examples/question.wav --out answer.wav

test: $(VENV)/.installed-test $(CLIENTS)/.installed test-packages
	scripts/check

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "needed: Python 3.11 or newer; name one with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || scripts/install-debian python3-venv
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,train]"
	touch $@

test-dist: $(VENV)/.installed-dist test-packages
	$(BIN)/pytest tests/dist

$(VENV)/.installed-dist: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,train,dist,test-dist]"
	touch $@

# The four Realtime clients that the server is tested with; apart, since they want older websockets and protobuf.
$(CLIENTS)/.installed: tests/server/clients/requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m venv $(CLIENTS) || { rm -rf $(CLIENTS); exit 1; }
	$(CLIENTS)/bin/pip install --quiet --disable-pip-version-check -r tests/server/clients/requirements.txt
	touch $@

.PHONY: test-packages
test-packages:
	@missing=""; for name in $(TEST_DEBS); do command -v $$name >/dev/null || missing="$$missing $$name"; done; \
	if [ -n "$$missing" ]; then scripts/install-debian $$missing; fi

data-packages:
	scripts/install-debian $(DATA_DEBS)

# On a GPU, about seven minutes: tables and JSON for docs/performance.md. BENCH="--size tiny --device cpu" tries it out.
BENCH ?= --size 7b --json bench-gpu.json --markdown bench-gpu.md
bench-gpu: $(VENV)/.installed
	$(BIN)/python -m benchmarks.published $(BENCH)

bench: $(VENV)/.installed-test
	for file in benchmarks/*.py; do OMP_NUM_THREADS=1 $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) $(CLIENTS) answer.wav
