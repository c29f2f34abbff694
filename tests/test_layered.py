"""The language model layer by layer: the whole module's numbers, from a fraction of its memory."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from golden.edit import opened
from golden.seeded import write_golden_folder

from pam_edge.export.backends.onnxruntime.decoder import language2onnx
from pam_edge.export.checkpoint.checkpoint import Checkpoint, load_language, open_checkpoint
from pam_edge.export.decoder import tensors
from pam_edge.export.reference import layered
from pam_edge.export.reference.layered import embedded, last_logits
from pam_edge.quantize.schemes import scheme_named


@pytest.fixture(params=["random", "shards in float16", "shards in bfloat16"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoint:
    if request.param == "random":
        return open_checkpoint("random:nano")
    dtype = torch.bfloat16 if "bfloat16" in request.param else torch.float16
    return opened(write_golden_folder(tmp_path, dtype=dtype))


def test_logits_are_those_of_the_whole_model_s_steps(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four tokens one after the other through the cache, and all at once through the layers."""
    monkeypatch.setattr(layered, "HEAD_ROWS", 100)
    ids, following = [5, 9, 5, 77, 31], [3, 3, 40]
    language = load_language(checkpoint)
    embeds = embedded(checkpoint, ids)
    assert torch.equal(embeds, language.embed_tokens(torch.tensor([ids])))
    with torch.no_grad():
        logits, cache = language(embeds)
        rows = [logits[0]]
        for token in following:
            logits, cache = language(language.embed_tokens(torch.tensor([[token]])), cache)
            rows.append(logits[0])
    told: list[float] = []
    found = last_logits(
        checkpoint, torch.cat([embeds, embedded(checkpoint, following)], dim=1), 4, progress=told.append
    )
    torch.testing.assert_close(found, torch.stack(rows), atol=2e-5, rtol=2e-5)
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] < 1


def test_one_layer_s_weights_are_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint("random:nano")
    read, alive, layers = checkpoint.tensor, {}, set()

    def counted(key: str) -> torch.Tensor:
        values = read(key).numpy().copy()
        alive[key] = weakref.ref(values)
        held = {each.split(".")[2] for each, values in alive.items() if values() is not None}
        assert len(held) == 1, f"{held} are in memory at once"
        layers.update(held)
        return torch.from_numpy(values)

    monkeypatch.setattr(checkpoint, "tensor", counted)
    last_logits(checkpoint, embedded(checkpoint, [1, 2, 3]), 1)
    assert {"0", "1", "2", "3"} < layers


@pytest.mark.parametrize("scheme", ["fp32", "int4"])
def test_shards_in_bfloat16_stream_into_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Rows read from the shards as they are wanted give the bytes of whole tensors."""
    checkpoint = opened(write_golden_folder(tmp_path, dtype=torch.bfloat16))
    monkeypatch.setattr(tensors, "AT_ONCE", 1000)
    whole, rows = tmp_path / "whole", tmp_path / "rows"
    for folder, read in ((whole, lambda key: checkpoint.tensor(key).numpy()), (rows, checkpoint.lazy)):
        folder.mkdir()
        language2onnx(checkpoint.variant.language, read, folder, scheme=scheme_named(scheme))
    for path in whole.iterdir():
        assert path.read_bytes() == (rows / path.name).read_bytes(), path.name
