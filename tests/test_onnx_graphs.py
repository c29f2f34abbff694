"""What module2onnx promises of any module, asked of one that exports in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from pool_graph import INPUTS, OUTPUTS, Pool, spec
from starved import starved

from pam_edge.bundle.manifest import TensorSpec
from pam_edge.core.errors import EnvironmentProblem
from pam_edge.export.backends.onnxruntime.graphs import module2onnx


def run(path: Path, points: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path).run(["mean", "each"], {"points": points, "bias": bias})


@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_named_axes_are_free(tmp_path: Path, count: int) -> None:
    module = Pool()
    (path,) = module2onnx(module, INPUTS, OUTPUTS, tmp_path / "pool.onnx")
    points = np.random.default_rng(count).standard_normal((1, count, 2), dtype=np.float32)
    found = run(path, points, np.ones(512, np.float32))
    with torch.inference_mode():
        wanted = module(torch.from_numpy(points), torch.ones(512))
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)


def test_large_weights_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = module2onnx(Pool(), INPUTS, OUTPUTS, tmp_path / "whole.onnx")
    monkeypatch.setattr("pam_edge.quantize.save.ONE_FILE", 1 << 19)
    files = module2onnx(Pool(), INPUTS, OUTPUTS, tmp_path / "pool.onnx")
    assert [f.name for f in files] == ["pool.onnx", "pool.bin"]
    assert files[0].stat().st_size < 20_000 < 1 << 20 <= files[1].stat().st_size
    given = np.ones((1, 4, 2), np.float32), np.zeros(512, np.float32)
    np.testing.assert_array_equal(run(files[0], *given)[0], run(whole, *given)[0])


def test_same_module_gives_the_same_bytes(tmp_path: Path) -> None:
    a, b = (module2onnx(Pool(), INPUTS, OUTPUTS, tmp_path / f"{n}.onnx")[0].read_bytes() for n in "ab")
    assert a == b
    assert str(Path(__file__).parent.parent).encode() not in a
    assert b"site-packages" not in a


@pytest.mark.parametrize(
    "outputs",
    [
        (spec("mean", 1, 511), OUTPUTS[1]),
        (spec("mean", 1, "count"), OUTPUTS[1]),
        (OUTPUTS[0], spec("each", 1, 3, 512)),
        (TensorSpec(name="mean", dtype="float16", axes=(1, 512)), OUTPUTS[1]),
    ],
)
def test_a_border_that_is_not_the_modules_is_refused(tmp_path: Path, outputs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(ValueError, match=r"pool\.onnx came out as"):
        module2onnx(Pool(), INPUTS, outputs, tmp_path / "pool.onnx")
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="write somewhere else"):
        module2onnx(Pool(), INPUTS, OUTPUTS, tmp_path / "absent" / "pool.onnx")


def test_no_room_is_said(tmp_path: Path) -> None:
    """A limit on file size stands for a full disk: the same OSError from the same calls."""
    program = (
        "import sys; from pathlib import Path; from test_onnx_graphs import *\n"
        "import pam_edge.quantize.save as saving\n"
        "from pam_edge.core.errors import WontFitError\n"
        "for saving.ONE_FILE in (1 << 30, 1 << 19):\n"
        "    try: module2onnx(Pool(), INPUTS, OUTPUTS, Path(sys.argv[1]) / 'pool.onnx')\n"
        "    except WontFitError as e: print(e)"
    )
    done = starved(program, tmp_path)
    assert done.stdout.count("pool.onnx: ") == done.stdout.count("free some space") == 2
    assert done.stderr == ""  # nor does the exporter chat
