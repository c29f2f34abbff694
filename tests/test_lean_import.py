"""`import pam_edge` is for everyone: no torch, no engine, well under a second."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "onnx", "onnxruntime", "transformers", "safetensors", "coremltools", "typer", "tokenizers")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light() -> None:
    code = f"""
import sys, time
start = time.perf_counter()
import pam_edge
print(time.perf_counter() - start)
print([m for m in {HEAVY!r} if m in sys.modules])
"""
    seconds, heavy = python(code).splitlines()
    assert float(seconds) < 1 and heavy == "[]"


def test_the_whole_run_side_needs_no_torch_and_no_engine_until_a_bundle_is_opened() -> None:
    code = f"""
import sys
import pam_edge.render.overlay, pam_edge.pipeline.pam, pam_edge.render.json_report
from pam_edge import Bundle, Pam, load
print([m for m in {HEAVY[:6]!r} if m in sys.modules])
"""
    assert python(code).strip() == "[]"


def test_measuring_and_showing_need_no_torch_and_no_engine_of_their_own() -> None:
    code = f"""
import sys
import pam_edge.benchmarks.speed.bench, pam_edge.benchmarks.harness.compare, pam_edge.benchmarks.speed.runner
import pam_edge.benchmarks.report.write, pam_edge.benchmarks.devices.choose
print([m for m in {HEAVY[:6]!r} if m in sys.modules])
"""
    assert python(code).strip() == "[]"


def test_public_names_load_no_engine() -> None:
    code = f"""
import sys
import pam_edge
assert "numpy" not in sys.modules
for name in pam_edge.__all__:
    getattr(pam_edge, name)
print(pam_edge.__version__)
print([m for m in {HEAVY[:6]!r} if m in sys.modules])
"""
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)[1]
    assert python(code).split("\n")[:2] == [version, "[]"]


def test_unknown_names_are_attribute_errors() -> None:
    import pam_edge

    with pytest.raises(AttributeError, match="nothing"):
        pam_edge.nothing  # noqa: B018
