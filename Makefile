# Every target works from a fresh clone: it makes .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Two processes, a file to one of them. A test that hangs fails after ten minutes; one that ends its process ends the
# run: pytest-xdist's new process would wait for tests that are done.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --timeout 600

.PHONY: install test slow check chaos cluster consumers scale fidelity gpu bench student demo clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@

install: $(VENV)/.installed

test: install  ## the whole suite, about ten minutes on two cores
	$(PYTEST) -m "not (slow or chaos or cluster or scale or consumers or fidelity)"

slow: install  ## what the suite leaves out for its time: whole tables of kinds, jobs on clusters of their own; about twelve minutes
	$(PYTEST) -m slow

chaos: install  ## CHAOS_KILLS=100 random kills from CHAOS_SEED=1; one JSON line each for processes and nodes
	$(BIN)/python -m pytest -m chaos -s

# One package after the other, each by itself: one that cannot be installed costs its own tests alone.
CONSUMERS := .venv-consumers
$(CONSUMERS)/.installed: tests/consumers/packages.txt pyproject.toml
	$(PYTHON) -m venv $(CONSUMERS)
	$(CONSUMERS)/bin/pip install --quiet --upgrade pip
	$(CONSUMERS)/bin/pip install --quiet -e '.[test]'
	while read -r package; do $(CONSUMERS)/bin/pip install --quiet --prefer-binary "$$package" \
	  || echo "not installed: $$package"; done < tests/consumers/packages.txt
	touch $@

consumers: $(CONSUMERS)/.installed  ## the packages of tests/consumers/packages.txt load exports, in a venv of their own
	$(CONSUMERS)/bin/python -m pytest -m consumers tests/consumers

scale: install  ## many units and images through the whole graph
	$(BIN)/python -m pytest -m scale -s

fidelity: install  ## labels of every photograph and scene of ../shared against the plain method with OpenCV
	$(BIN)/python -m pytest -m fidelity -s

gpu: install  ## on a machine with a GPU: its path against the CPU's, bit by bit; what the card can do and what is made of it
	$(BIN)/python -m pytest tests/gpu
	$(BIN)/scclip bench gpu --model ViT-B-16 --random

bench: install  ## every figure of BENCHMARKS.md but the million images; about an hour
	$(BIN)/scclip bench model --model ViT-B-16 --random
	$(BIN)/scclip bench model --model demo
	$(BIN)/scclip bench io
	$(BIN)/scclip bench pipeline --model demo
	$(BIN)/scclip bench pipeline --model ViT-B-16 --random --pictures 96
	$(BIN)/scclip bench scale

cluster: install  ## faults of clusters, jobs that share one, several hosts as network namespaces, S3 by Ceph, scale-up; needs root
	$(BIN)/python -m pytest -m cluster -s

# mypy and import-linter know no package that is put together from three folders: they see it through links.
LINKED := build/linked

check: install  ## lint, format, types, the arrows between packages, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(LINKED) && mkdir -p $(LINKED)/scclip
	ln -s $(CURDIR)/scclip/* $(CURDIR)/pipeline $(CURDIR)/jobs $(LINKED)/scclip
	cd $(LINKED) && $(abspath $(BIN))/mypy --cache-dir $(CURDIR)/.mypy_cache --config-file $(CURDIR)/pyproject.toml
	cd $(LINKED) && PYTHONPATH=. $(abspath $(BIN))/lint-imports --no-logo $(CURDIR)/.importlinter
	$(BIN)/python .ci/house.py

demo: install  ## drawn scenes through the whole pipeline, under two minutes; ends with the path of a report
	$(BIN)/scclip demo

student: install  ## a small network learns from the demo's labels alone; figures of student and teacher
	$(BIN)/scclip student

clean:
	rm -rf $(VENV) $(CONSUMERS) build dist *.egg-info demo-run student-run
