"""nano as it ships: small enough, true to its own weights, and answering without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pam_edge
from pam_edge.bundle import builtin
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import NANO
from pam_edge.export.driver.build import build, plan
from pam_edge.quantize.calibration import drawn_samples
from pam_edge.verify.verify import verify

MB = 1 << 20


def test_it_is_small() -> None:
    weights = [path for path in builtin.WEIGHTS.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in weights) <= 12 * MB
    assert Bundle.open(builtin.BUNDLE).total_bytes <= 8 * MB


def test_its_bundle_holds_its_numbers_here() -> None:
    checked = verify(Bundle.open(builtin.BUNDLE))
    assert checked.ok, [check for check in checked.checks if not check.ok]


def test_its_bundle_is_what_export_makes_of_its_weights(tmp_path: Path) -> None:
    """Calibrated graphs carry ranges that another CPU may compute a bit differently: of them the float
    reference is compared, of the rest the bytes.
    """
    size = NANO.vision.image_size
    settled = plan("nano", target="cpu", scheme="int4", samples=lambda of: drawn_samples(size, count=1))
    made, shipped = build(settled, tmp_path / "made"), Bundle.open(builtin.BUNDLE)
    assert made.manifest.weights == shipped.manifest.weights
    for graph in ("memory_encoder", "memory_attention", "decoder"):
        assert made.graph(graph) == shipped.graph(graph), f"{graph}: export pam_edge/nano/cpu again"
    with (
        np.load(made.path(made.manifest.golden)) as anew,
        np.load(shipped.path(shipped.manifest.golden)) as held,
    ):
        assert set(anew.files) == set(held.files)
        compared = [key for key in held.files if held[key].dtype.kind == "f" and held[key].size]
        assert any("region_tokens" in key for key in compared)
        for key in compared:
            off = np.abs(anew[key].astype(np.float32) - held[key].astype(np.float32)).max()
            assert off <= 2e-3 * max(1.0, float(np.abs(held[key]).max())), key


def test_its_name_alone_answers_without_torch(tmp_path: Path) -> None:
    program = """
import sys
import pam_edge
from pam_edge.benchmarks import synthetic
from pam_edge.image.preprocess import Prompt

scene = synthetic.scene(138, split="heldout")
object = scene.objects[0]
x, y = synthetic.centre_click(object.mask)
pam = pam_edge.load("nano")
region, answers = pam.ask(scene.image, Prompt(points=((x, y, 1),)), ["recognize", "brief"], max_tokens=32)
overlap = (region.mask & object.mask).sum() / (region.mask | object.mask).sum()
assert overlap > 0.5, overlap
assert all(answer.text and answer.finish_reason == "stop" for answer in answers), answers
assert "torch" not in sys.modules
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_its_name_alone_is_the_packaged_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pam_edge.load("nano").bundle.folder == builtin.BUNDLE
