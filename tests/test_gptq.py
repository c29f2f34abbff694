"""Blocks chosen by data: closer outputs than the nearest numbers give, layer by layer, gone on with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tiny_language import TINY, tiny_weights

from pam_edge.core.errors import EnvironmentProblem
from pam_edge.export.backends.onnxruntime.decoder import language2onnx
from pam_edge.export.decoder.calibrated import better_blocks
from pam_edge.export.model.language import Language
from pam_edge.quantize.blockwise import Blocks, dequantize, quantize
from pam_edge.quantize.gptq import compensated
from pam_edge.quantize.schemes import Rule, Scheme

SMALL = msgspec.structs.replace(TINY, hidden_size=64, mlp=128)
Q4 = Scheme("q4", "", (Rule("q8", tensor="*embed_tokens*"), Rule("q4", graph="decoder", dimensions=2)))


def inputs(positions: int, width: int, seed: int) -> np.ndarray:
    """Correlated, as activations are: a few directions carry most."""
    rng = np.random.default_rng(seed)
    mixed = np.random.default_rng(7).standard_normal((width, width)) * np.geomspace(1, 0.02, width)
    return (rng.standard_normal((positions, width)) @ mixed.T).astype(np.float32)


@pytest.mark.parametrize("width", [256, 96, 48])
def test_outputs_are_closer_than_those_of_the_nearest_blocks(width: int) -> None:
    w = np.random.default_rng(0).standard_normal((40, width), dtype=np.float32)
    seen, other = inputs(2000, width, 1), inputs(500, width, 2)
    moments = torch.from_numpy(seen.T @ seen / len(seen))
    errors = [
        np.linalg.norm(other @ (dequantize(blocks, width) - w).T)
        for blocks in (compensated(torch.from_numpy(w), moments, bits=4), quantize(w, bits=4))
    ]
    assert errors[0] < 0.7 * errors[1]


def test_a_direction_that_no_input_took_does_no_harm() -> None:
    w = np.random.default_rng(0).standard_normal((40, 256), dtype=np.float32)
    seen = inputs(100, 256, 1)
    seen[:, 100:] = 0
    blocks = compensated(torch.from_numpy(w), torch.from_numpy(seen.T @ seen / len(seen)), bits=4)
    found = dequantize(blocks, 256)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found - w) < 0.3 * np.linalg.norm(w)


class Model:
    """A small Qwen2 and its calibration; counts what is read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.weights = folder, tiny_weights(SMALL)
        for key in self.weights:  # quieter, so that errors add up instead of growing
            self.weights[key] *= np.float32(0.4 if "proj.weight" in key else 1)
        self.read: list[str] = []
        rng = np.random.default_rng(0)
        table = self.weights["language.embed_tokens.weight"]
        self.sequences = [table[rng.integers(0, SMALL.vocab_size, 60)] for _ in range(20)]
        self.held_out = table[rng.integers(0, SMALL.vocab_size, (10, 50))]

    def tensor(self, key: str) -> np.ndarray:
        self.read.append(key)
        return self.weights[key]

    def better(self, count: int = 20, stop: int | None = None):
        def progress(done: int, layers: int) -> None:
            assert layers == SMALL.layers
            if done == stop:
                raise KeyboardInterrupt

        return better_blocks(
            SMALL, self.tensor, self.sequences[:count], scheme=Q4, folder=self.folder, progress=progress
        )

    def error(self, blocks) -> float:
        """Of the logits on held-out texts, against float; `blocks` by key, None: as it is."""
        answers = []
        for change in (blocks, lambda key: None):
            model = Language(SMALL).eval()
            held = {}
            for key, values in self.weights.items():
                found = change(key)
                values = values if found is None else dequantize(found, values.shape[1])
                held[key.removeprefix("language.")] = torch.from_numpy(values.copy())
            model.load_state_dict(held)
            with torch.no_grad():
                answers.append(model.logits(model.hidden(torch.from_numpy(self.held_out))[0]))
        return float((answers[0] - answers[1]).norm() / answers[1].norm())


def same(a: Blocks | None, b: Blocks | None) -> bool:
    assert a is not None
    assert b is not None
    return bool((a.codes == b.codes).all() and (a.scales == b.scales).all())


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(tmp_path)


def test_a_whole_model_answers_closer_to_float(model: Model) -> None:
    better = model.better()
    layers = {k for k, v in model.weights.items() if v.ndim == 2 and ".layers." in k}
    assert {key for key in model.weights if better(key)} == layers
    nearest = model.error(lambda key: quantize(model.weights[key], bits=4) if key in layers else None)
    assert model.error(better) < 0.9 * nearest


def test_an_interrupted_run_goes_on_and_ends_the_same(model: Model, tmp_path_factory) -> None:
    whole = Model(tmp_path_factory.mktemp("whole")).better()
    with pytest.raises(KeyboardInterrupt):
        model.better(stop=2)
    finished = {path: path.stat().st_mtime_ns for path in model.folder.iterdir()}
    assert len(finished) == 2
    better = model.better()
    assert all(path.stat().st_mtime_ns == at for path, at in finished.items())
    assert all(same(better(k), whole(k)) for k in model.weights if better(k))


def test_the_decoder_takes_them(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    better = model.better(count=2)
    model.read.clear()
    files = language2onnx(SMALL, model.tensor, out, scheme=Q4, better=better)
    assert not [key for key in model.read if "proj.weight" in key]
    blocks = better("language.layers.2.mlp.down_proj.weight")
    assert blocks is not None
    assert blocks.codes.tobytes() in files[1].read_bytes()


def test_a_folder_that_is_not_there_is_said(model: Model) -> None:
    model.folder /= "absent"
    with pytest.raises(EnvironmentProblem, match="layer-0"):
        model.better(count=1)
