"""The decoder in 8 and 4 bits: its graph is Qwen2 over the numbers that its blocks stand for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from reference_session import ReferenceSession
from tiny_language import TINY, tiny_bundle, tiny_weights

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import LanguageConfig
from pam_edge.core.errors import UsageError
from pam_edge.export.backends.onnxruntime.decoder import language2onnx
from pam_edge.export.decoder import onnx_graph
from pam_edge.export.decoder.tensors import PAGE
from pam_edge.pipeline.generation import bundle_step_bytes
from pam_edge.quantize.blockwise import Blocks, dequantize, quantize
from pam_edge.quantize.schemes import Rule, Scheme
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.kv_decoder import KvDecoder
from pam_edge.runtimes.common.registry import open_decoder

Q8 = Scheme("q8", "", (Rule("q8", graph="decoder", dimensions=2),))
Q4 = Scheme(
    "q4", "", (Rule("q8", tensor="*embed_tokens*"), Rule("q8", tensor="*lm_head*"), Rule("q4", dimensions=2))
)
ALL4 = Scheme("all4", "", (Rule("q4", dimensions=2),))
MIXED = Scheme(  # q, k and v of one layer as three, a layer in float, vocabulary in 16 bits
    "mixed",
    "",
    (
        Rule("q8", tensor="*.0.self_attn.v_proj.weight"),
        Rule("float32", tensor="*.layers.1.*"),
        Rule("float16", tensor="*embed_tokens*"),
        Rule("q4", dimensions=2),
    ),
)
UNTIED = msgspec.structs.replace(TINY, tied=False)
WIDE = msgspec.structs.replace(TINY, hidden_size=128, mlp=256)  # blocks of 128
CLOSE = 2e-4
CASES = {
    "q8": (Q8, TINY),
    "q4": (Q4, TINY),
    "all4": (ALL4, WIDE),
    "untied": (Q4, UNTIED),
    "mixed": (MIXED, TINY),
}


def reference(lm: LanguageConfig, scheme: Scheme) -> KvDecoder:
    """Qwen2 in numpy over what the scheme leaves of each weight."""
    weights = tiny_weights(lm)
    for key, values in weights.items():
        match scheme.storage("decoder", key, values.shape):
            case "q8" | "q4" as stored:
                blocks = quantize(values, bits=8 if stored == "q8" else 4)
                weights[key] = dequantize(blocks, values.shape[1])
            case "float16":
                weights[key] = values.astype(np.float16).astype(np.float32)
    table = TokenTable(weights["language.embed_tokens.weight"])
    return KvDecoder(ReferenceSession(lm, weights), lm, table)


def exact(bundle: Bundle) -> Bundle:
    """The same graph with float32 activations: what is left to differ is the graph itself."""
    path = bundle.folder / "decoder.onnx"
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                assert attribute.i == 4
                attribute.i = 0
    path.write_bytes(model.SerializeToString())
    return bundle


def prompt(lm: LanguageConfig, length: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, length])
    return rng.standard_normal((length, lm.hidden_size), dtype=np.float32)


@pytest.mark.parametrize("scheme", [Q8, ALL4], ids=["q8", "q4"])
def test_a_head_in_bands_says_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: Scheme
) -> None:
    """97 rows in bands of 40: the last is shorter, and none of them lies where the table begins but one."""
    said = []
    for name, band in (("whole", 1 << 15), ("bands", 40)):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(onnx_graph, "_BAND", band)
        bundle = tiny_bundle(tmp_path / name, WIDE, scheme)
        decoder = open_decoder(bundle, threads=1)
        said.append(np.stack([decoder.prefill([prompt(WIDE, 9)]), decoder.step([3]), decoder.step([96])]))
        graph = onnx.load(bundle.folder / "decoder.onnx", load_external_data=False).graph
        heads = sum(node.output[0].endswith("logits") for node in graph.node)
        assert heads == (1 if name == "whole" else 4)  # three bands, and what puts them together
    np.testing.assert_array_equal(*said)


@pytest.mark.parametrize("case", CASES)
def test_the_graph_is_the_model_over_its_blocks(tmp_path: Path, case: str) -> None:
    """Prompts, steps, branches of different lengths: each against the definition, in numpy."""
    scheme, lm = CASES[case]
    found, wanted = open_decoder(exact(tiny_bundle(tmp_path, lm, scheme)), threads=1), reference(lm, scheme)
    np.testing.assert_allclose(found.embed([3, 96, 3]), wanted.embed([3, 96, 3]), rtol=1e-6)
    for decoder in (found, wanted):
        decoder.prefill([prompt(lm, 30)])
    steps = [d.step([5]) for d in (found, wanted)]
    np.testing.assert_allclose(*steps, atol=CLOSE, rtol=0)
    tails = [prompt(lm, n, seed=n) for n in (3, 9)]
    rows = [d.branch(2) for d in (found, wanted)]
    np.testing.assert_allclose(*(d.prefill(tails) for d in rows), atol=CLOSE, rtol=0)
    np.testing.assert_allclose(*(d.step([7, 8]) for d in rows), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_activations_in_8_bits_cost_little(tmp_path: Path, case: str) -> None:
    scheme, lm = CASES[case]
    found, wanted = open_decoder(tiny_bundle(tmp_path, lm, scheme), threads=1), reference(lm, scheme)
    errors = []
    for length in (1, 20, 300):
        a, b = (d.prefill([prompt(lm, length)]) for d in (found, wanted))
        errors.append(np.linalg.norm(a - b) / np.linalg.norm(b))
    assert 1e-5 < np.median(errors) < 0.12  # of weights this loud; trained ones differ by a tenth of that


def test_a_prompt_at_once_or_in_steps(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, WIDE, ALL4)
    steps, whole = (open_decoder(bundle, threads=1) for _ in range(2))
    tokens = [4, 9, 90, 2]
    for token in tokens:
        last = steps.step([token])
    np.testing.assert_allclose(last, whole.prefill([whole.embed(tokens)]), atol=CLOSE, rtol=0)


def test_embedding_and_tied_head_are_the_same_bytes(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, TINY, Q8)
    model = onnx.load(tmp_path / "decoder.onnx", load_external_data=False)
    places = {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer}
    codes, scales, end = bundle.manifest.embedding.layout()
    assert codes == (97, 2, 32)
    assert places["head"] == {"location": "embedding.bin", "offset": "0", "length": str(97 * 64)}
    assert places["head.scales"]["offset"] == str(scales)
    assert (tmp_path / "embedding.bin").stat().st_size == end
    assert sum(p["location"] == "embedding.bin" for p in places.values()) == 2


def test_four_bits_take_an_eighth(tmp_path: Path) -> None:
    """Of the matrices' bytes: 4.25 bits a value where a block is 128 wide."""
    lm = msgspec.structs.replace(WIDE, mlp=2048, max_length=16)
    sizes = {}
    for name, scheme in (("float", Scheme("f", "", ())), ("q4", ALL4)):
        (tmp_path / name).mkdir()
        files = language2onnx(lm, tiny_weights(lm).__getitem__, tmp_path / name, scheme=scheme)
        sizes[name] = files[1].stat().st_size
    assert sizes["q4"] < sizes["float"] / 7


@pytest.mark.parametrize("lm", [TINY, UNTIED])
def test_a_step_reads_what_is_stored(tmp_path: Path, lm: LanguageConfig) -> None:
    bundle = tiny_bundle(tmp_path, lm, Q4)
    read = 0
    tensors = onnx.load(tmp_path / "decoder.onnx", load_external_data=False).graph.initializer
    for tensor in tensors:
        if not tensor.name.startswith("rope"):
            read += int({e.key: e.value for e in tensor.external_data}["length"])
    assert read <= bundle_step_bytes(bundle.manifest) < read + PAGE * len(tensors)


def test_blocks_from_elsewhere_are_taken(tmp_path: Path) -> None:
    """`better` is asked once for each matrix in blocks, in place of the tensor; None falls back to it."""
    weights, read, asked = tiny_weights(TINY), Counter[str](), Counter[str]()
    special = "language.layers.1.self_attn.k_proj.weight"

    def tensor(key: str) -> np.ndarray:
        read[key] += 1
        return weights[key]

    def better(key: str) -> Blocks | None:
        asked[key] += 1
        return quantize(np.zeros_like(weights[key]), bits=4) if key == special else None

    language2onnx(TINY, tensor, tmp_path, scheme=Q4, better=better)
    matrices = [key for key in weights if weights[key].ndim == 2]
    assert asked == Counter(matrices)
    assert read == Counter([key for key in weights if key != special])
    model = onnx.load(tmp_path / "decoder.onnx", load_external_data=False)
    (scales,) = (t for t in model.graph.initializer if t.name == "layer.1.qkv.weight.scales")
    start = {e.key: int(e.value) for e in scales.external_data if e.key != "location"}["offset"]
    held = np.fromfile(tmp_path / "decoder.bin", np.float32, offset=start, count=128 * 2).reshape(128, 2)
    assert not held[64:96].any()  # q has 64 rows, k and v 32 each
    assert held[:64].all()
    assert held[96:].all()


def test_blocks_of_another_kind_are_a_mistake(tmp_path: Path) -> None:
    def better(key: str) -> Blocks:
        return quantize(tiny_weights(TINY)[key], bits=8)

    with pytest.raises(ValueError, match=r"q_proj.*8 bits"):
        language2onnx(TINY, tiny_weights(TINY).__getitem__, tmp_path, scheme=ALL4, better=better)


def test_calibrated_integers_are_refused(tmp_path: Path) -> None:
    scheme = Scheme("w", "", (Rule("w8a8", tensor="*up_proj*"),))
    with pytest.raises(UsageError, match=r"up_proj.*w8a8.*possible: .*q8, q4"):
        language2onnx(TINY, tiny_weights(TINY).__getitem__, tmp_path, scheme=scheme)
    assert not list(tmp_path.iterdir())
