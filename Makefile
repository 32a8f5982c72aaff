# Two commands: `make demo` and `make test`. Both make a virtual environment with tested versions.
#
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu     a CPU build of torch (or .../cu130)

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
PYTEST ?= -n 2
BENCH ?=

BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo quick test test-slow test-long bench bench-scaling bench-gpu lint clean help
.DELETE_ON_ERROR:

help:
	@echo "make demo       install, run studies/stabilizer.yaml, say where the report is"
	@echo "make quick      install, run studies/quick.yaml (a minute after the installation)"
	@echo "make test       install, run the tests"
	@echo "make test-slow  install, run the long loops over real DDP, MLflow and kills"
	@echo "make test-long  install, run what takes an hour and more: all seeds of all sick GANs"
	@echo "make bench      install, measure the goals of docs/speed.md (half an hour; BENCH='--only C2,C6' for some)"
	@echo "make bench-scaling  install, draw how driver, slots and step scale (quarter of an hour; BENCH='--only step')"
	@echo "make bench-gpu  install, check the step on a CUDA device and time it (under ten minutes)"

$(VENV)/.made:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'ablate needs Python 3.11 or newer, this is ' + sys.version.split()[0])"
	$(PYTHON) -m venv $(VENV)
	touch $@

# torch comes first and alone, so that a chosen index serves it and nothing else.
$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch torchvision
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/ablate run studies/stabilizer.yaml

quick: $(VENV)/.installed
	$(BIN)/ablate run studies/quick.yaml

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST) -m "not slow and not long"

test-slow: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST) --dist loadfile -m "slow and not long"
	OMP_NUM_THREADS=1 ABLATE_TEST_DEVICE=cpu $(BIN)/python -m pytest $(PYTEST) tests/trainers/test_device.py

test-long: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST) -m long

bench: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.goals $(BENCH)

bench-scaling: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scaling $(BENCH)

bench-gpu: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.gpu $(BENCH)

lint: $(VENV)/.installed-test
	$(PIP) ruff
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV)
