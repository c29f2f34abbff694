"""The exported decoder's files: what is in them, what writing them costs, and how it fails."""

from __future__ import annotations

import weakref
from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from reference_session import ReferenceSession
from starved import starved
from tiny_language import TINY, tiny_bundle, tiny_weights, weight_shapes

from pam_edge.core.errors import EnvironmentProblem, IntegrityError
from pam_edge.export.backends.onnxruntime.decoder import language2onnx
from pam_edge.export.decoder import tensors
from pam_edge.export.decoder.tensors import PAGE
from pam_edge.quantize.schemes import scheme_named
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.kv_decoder import KvDecoder
from pam_edge.runtimes.common.registry import open_decoder

UNTIED = msgspec.structs.replace(TINY, tied=False)


def external(model: onnx.ModelProto) -> dict[str, dict[str, str]]:
    return {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer}


def test_tied_head_is_the_embedding_file(tmp_path: Path) -> None:
    weights = tiny_weights(TINY)
    graph, data, table = language2onnx(TINY, weights.__getitem__, tmp_path)
    held = np.fromfile(table, np.float32).reshape(TINY.vocab_size, TINY.hidden_size)
    np.testing.assert_array_equal(held, weights["language.embed_tokens.weight"])
    places = external(onnx.load(graph, load_external_data=False))
    head = places.pop("head")
    assert (head["location"], head["offset"], int(head["length"])) == (table.name, "0", table.stat().st_size)
    assert {place["location"] for place in places.values()} == {data.name}
    unique = sum(int(np.prod(s)) for k, s in weight_shapes(TINY).items() if "embed_tokens" not in k)
    rope = TINY.max_length * TINY.head_dim
    assert 4 * (unique + rope) <= data.stat().st_size < 4 * (unique + rope) + PAGE * len(places)


def test_untied_head_is_its_own_weight(tmp_path: Path) -> None:
    decoder = open_decoder(tiny_bundle(tmp_path, UNTIED), threads=1)
    weights = tiny_weights(UNTIED)
    reference = KvDecoder(
        ReferenceSession(UNTIED, weights), UNTIED, TokenTable(weights["language.embed_tokens.weight"])
    )
    found, wanted = (d.prefill([d.embed([1, 2, 3])]) for d in (decoder, reference))
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    tied = KvDecoder(
        ReferenceSession(TINY, weights), TINY, TokenTable(weights["language.embed_tokens.weight"])
    )
    assert np.abs(found - tied.prefill([tied.embed([1, 2, 3])])).max() > 0.1


def test_weights_start_on_pages_and_do_not_overlap(tmp_path: Path) -> None:
    graph, data, _ = language2onnx(UNTIED, tiny_weights(UNTIED).__getitem__, tmp_path)
    spans = sorted(
        (int(p["offset"]), int(p["offset"]) + int(p["length"]))
        for p in external(onnx.load(graph, load_external_data=False)).values()
    )
    assert all(start % PAGE == 0 for start, _ in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] == data.stat().st_size


def test_each_tensor_is_read_once_and_let_go(tmp_path: Path) -> None:
    weights, read = tiny_weights(UNTIED), Counter[str]()
    alive: list[weakref.ref[np.ndarray]] = []

    def tensor(key: str) -> np.ndarray:
        assert sum(ref() is not None for ref in alive) <= 1, "more than the tensor just written is held"
        read[key] += 1
        copy = weights[key].copy()
        alive.append(weakref.ref(copy))
        return copy

    language2onnx(UNTIED, tensor, tmp_path)
    assert read == Counter(dict.fromkeys(weights, 1))


@pytest.mark.parametrize("scheme", ["fp32", "fp16", "int8", "int4"])
def test_rows_read_a_few_at_a_time_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, at_once in ((whole, 1 << 24), (parts, 5 * TINY.hidden_size)):
        monkeypatch.setattr(tensors, "AT_ONCE", at_once)
        folder.mkdir()
        language2onnx(TINY, tiny_weights(TINY).__getitem__, folder, scheme=scheme_named(scheme))
    for path in whole.iterdir():
        assert path.read_bytes() == (parts / path.name).read_bytes(), path.name


def test_progress_counts_bytes_up_to_all(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    language2onnx(TINY, tiny_weights(TINY).__getitem__, tmp_path, progress=lambda *b: told.append(b))
    done = [d for d, _ in told]
    assert done == sorted(set(done))
    assert len({total for _, total in told}) == 1
    assert told[-1][0] == told[-1][1] > 4 * TINY.vocab_size * TINY.hidden_size


def test_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        language2onnx(TINY, tiny_weights(TINY).__getitem__, folder)
    a, b = ([p.read_bytes() for p in sorted(folder.iterdir())] for folder in folders)
    assert a == b


def test_misshaped_weight_is_named(tmp_path: Path) -> None:
    weights = tiny_weights(TINY)
    key = "language.layers.1.mlp.down_proj.weight"
    weights[key] = weights[key].T
    with pytest.raises(IntegrityError, match=rf"{key}.*\(112, 48\).*\(48, 112\)"):
        language2onnx(TINY, weights.__getitem__, tmp_path)


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="write somewhere else"):
        language2onnx(TINY, tiny_weights(TINY).__getitem__, tmp_path / "absent")


def test_no_room_is_said(tmp_path: Path) -> None:
    """A limit on file size stands for a full disk: the same OSError from the same call."""
    program = (
        "import sys; from pathlib import Path; from tiny_language import *\n"
        "from pam_edge.core.errors import WontFitError\n"
        "try: language2onnx(TINY, tiny_weights(TINY).__getitem__, Path(sys.argv[1]))\n"
        "except WontFitError as e: print(e)"
    )
    done = starved(program, tmp_path)
    assert "cannot write the decoder into" in done.stdout
    assert "free some space" in done.stdout
