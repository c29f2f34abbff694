"""The language model layer by layer: the whole module's numbers, from a fraction of its memory."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import pytest
import torch

from pam_edge.export import layered
from pam_edge.export.checkpoint import load_language, open_checkpoint
from pam_edge.export.layered import embedded, last_logits

if TYPE_CHECKING:
    from pam_edge.export.checkpoint import Checkpoint


@pytest.fixture(params=["random", "files"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    if request.param == "random":
        return open_checkpoint("random:nano")
    found: Checkpoint = request.getfixturevalue("golden_checkpoint")
    return found


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
        checkpoint, torch.cat([embeds, embedded(checkpoint, following)], dim=1), 4, tell=told.append
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
