"""The decoder's CoreML package, read back and evaluated, against Qwen2 from its definition in numpy."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny_language import TINY, tiny_weights

pytest.importorskip("coremltools")

from fake_coreml import FakeModel
from mil_evaluator import Evaluated
from reference_session import ReferenceSession

from pam_edge.core.errors import IntegrityError, UsageError, WontFitError
from pam_edge.export.backends.coreml.decoder import (
    CHUNK,
    PREFILL,
    STEP,
    decoder_specs,
    language2coreml,
    positions,
)
from pam_edge.export.backends.coreml.weights import matrix_shapes
from pam_edge.quantize.blockwise import dequantize, quantize
from pam_edge.quantize.schemes import scheme_named
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.kv_decoder import KvDecoder
from pam_edge.runtimes.coreml.decoder import StatefulDecoder

# Widths in whole blocks, and a cache that a test can fill.
LM = msgspec.structs.replace(TINY, hidden_size=64, mlp=128, layers=2, max_length=2 * CHUNK + 30)
SCHEMES = ("fp16", "int8", "int4")
CLOSE = 0.02  # of logits of order 10: float16 between operators
# Every operator of the decoder. All but the casts around norms are what CoreML has for CPU and GPU in
# float16.
OPERATORS = {
    *("linear", "scaled_dot_product_attention", "silu", "add", "sub", "mul", "rsqrt", "reduce_mean", "cast"),
    *("reshape", "transpose", "split", "concat", "slice_by_size", "slice_update", "less_equal"),
    *("read_state", "coreml_update_state"),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, found = tmp_path_factory.mktemp("coreml"), {}
    for scheme in SCHEMES:
        found[scheme] = folder / f"{scheme}.mlpackage"
        language2coreml(LM, tiny_weights(LM).__getitem__, found[scheme], scheme=scheme_named(scheme))
    return found


def stored(scheme: str) -> dict[str, np.ndarray]:
    """The weights that a package of that scheme stands for."""
    weights, rules = tiny_weights(LM), scheme_named(scheme)
    for key, shape in matrix_shapes(LM).items():
        storage = rules.storage("decoder", key, shape)
        if storage in ("q8", "q4"):
            blocks = quantize(weights[key], bits=8 if storage == "q8" else 4)
            weights[key] = dequantize(blocks, shape[1])
    return weights


def table() -> TokenTable:
    return TokenTable(tiny_weights(LM)["language.embed_tokens.weight"])


def reference(scheme: str = "fp16") -> KvDecoder:
    return KvDecoder(ReferenceSession(LM, stored(scheme)), LM, table())


def decoder(package: Path) -> StatefulDecoder:
    prefill, step = (FakeModel(str(package), function_name=name) for name in (PREFILL, STEP))
    return StatefulDecoder(prefill, step, language=LM, table=table(), chunk=CHUNK)


def prompt(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, length]).standard_normal((length, LM.hidden_size), dtype=np.float32)


def close(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_allclose(a, b, atol=CLOSE * max(1, np.abs(b).max()), rtol=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_prefill_then_steps_answer_like_the_reference(packages: dict[str, Path], scheme: str) -> None:
    ours, theirs = decoder(packages[scheme]), reference(scheme)
    logits = ours.prefill([prompt(CHUNK + 9)])  # a whole chunk and a padded one
    wanted = theirs.prefill([prompt(CHUNK + 9)])
    close(logits, wanted)
    for token in (5, 17, 96, 0):
        close(ours.step([token]), theirs.step([token]))
    assert ours.lengths == theirs.lengths == (CHUNK + 13,)
    assert np.abs(wanted).max() > 1  # numbers in which an error would show


def test_four_bits_differ_from_sixteen_by_more_than_rounding(packages: dict[str, Path]) -> None:
    fine, coarse = (decoder(packages[s]).prefill([prompt(9)]) for s in ("fp16", "int4"))
    assert np.abs(fine - coarse).max() > 3 * CLOSE * np.abs(fine).max()


def test_prefill_equals_steps_and_parts(packages: dict[str, Path]) -> None:
    ours, parts, steps = (decoder(packages["fp16"]) for _ in range(3))
    tokens = [5, 17, 96, 0, 33, 8, 2]
    whole = ours.prefill([ours.embed(tokens)])
    parts.prefill([parts.embed(tokens[:3])])
    close(parts.prefill([parts.embed(tokens[3:])]), whole)
    for token in tokens:
        logits = steps.step([token])
    close(logits, whole)


def test_branches_equal_separate_runs_and_leave_their_parent_alone(packages: dict[str, Path]) -> None:
    parent, alone = decoder(packages["fp16"]), decoder(packages["fp16"])
    prefix, tails = prompt(20), [prompt(n, seed=n) for n in (3, 1, CHUNK + 2)]
    parent.prefill([prefix])
    branches = parent.branch(3)
    logits = branches.prefill(tails)
    assert branches.lengths == (23, 21, 22 + CHUNK)
    assert parent.lengths == (20,)
    stepped = branches.step([4, 5, 6])
    for row, tail in enumerate(tails):
        alone.rewind(0)
        alone.prefill([prefix])
        np.testing.assert_array_equal(logits[row], alone.prefill([tail])[0])
        np.testing.assert_array_equal(stepped[row], alone.step([4 + row])[0])
    branches.keep([2, 0])
    assert branches.lengths == (23 + CHUNK, 24)
    fresh = decoder(packages["fp16"])
    fresh.prefill([prefix])
    np.testing.assert_array_equal(parent.step([7]), fresh.step([7]))


def test_rewound_equals_fresh(packages: dict[str, Path]) -> None:
    ours, fresh = decoder(packages["fp16"]), decoder(packages["fp16"])
    ours.prefill([prompt(40)])
    ours.step([3])
    ours.rewind(25)
    fresh.prefill([prompt(40)[:25]])
    np.testing.assert_array_equal(ours.prefill([prompt(9, 1)]), fresh.prefill([prompt(9, 1)]))
    ours.rewind(100)
    assert ours.lengths == (34,)


def test_a_full_cache_is_said_before_anything_happens(packages: dict[str, Path]) -> None:
    ours, theirs = decoder(packages["fp16"]), reference()
    for each in (ours, theirs):
        each.prefill([prompt(LM.max_length - 1)])
    close(ours.step([1]), theirs.step([1]))  # the very last position, behind a padded chunk
    with pytest.raises(WontFitError, match=f"{LM.max_length + 1} positions"):
        ours.step([1])
    assert ours.lengths == (LM.max_length,)


def test_its_border_is_what_the_bundle_will_say(packages: dict[str, Path]) -> None:
    description = Evaluated(packages["int4"]).spec.description
    assert description.defaultFunctionName == PREFILL
    inputs, outputs = decoder_specs(LM)
    for function, count in zip(description.functions, (CHUNK, 1), strict=True):
        assert function.name == (PREFILL if count > 1 else STEP)
        wanted = [
            (s.name, [count if a == "tokens" else a for a in s.axes])
            for s in inputs
            if count > 1 or s.name != "last"
        ]
        assert [(f.name, list(f.type.multiArrayType.shape)) for f in function.input] == wanted
        assert [(f.name, list(f.type.multiArrayType.shape)) for f in function.output] == [
            (s.name, list(s.axes)) for s in outputs
        ]
        states = {s.name: list(s.type.stateType.arrayType.shape) for s in function.state}
        shape = [LM.layers, LM.kv_heads, positions(LM), LM.head_dim]
        assert states == {"keys": shape, "values": shape}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_functions_share_one_copy_of_the_weights(packages: dict[str, Path], scheme: str) -> None:
    weights = packages[scheme] / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    bits = {"float16": 16, "q8": 8 + 16 / 32, "q4": 4 + 16 / 32}
    rules, shapes = scheme_named(scheme), matrix_shapes(LM)
    least = sum(math.prod(s) * bits[rules.storage("decoder", key, s)] for key, s in shapes.items()) / 8
    padded = 0 if scheme == "fp16" else sum(map(math.prod, shapes.values())) / 8  # the last block of a row
    rest = positions(LM) * LM.head_dim * 2 + 15_000  # rotations and vectors, and each constant's own header
    assert least <= weights.stat().st_size <= least + padded + rest


def test_it_is_made_of_known_operators_and_keeps_its_cache_in_float16(packages: dict[str, Path]) -> None:
    for scheme in SCHEMES:
        held = Evaluated(packages[scheme])
        for function in (PREFILL, STEP):
            extra = set() if scheme == "fp16" else {"constexpr_blockwise_shift_scale"}
            assert set(held.operators(function)) == OPERATORS | extra
            assert {a.dtype for a in held.new_state(function).values()} == {np.dtype(np.float16)}


def test_the_same_weights_give_the_same_bytes(packages: dict[str, Path], tmp_path: Path) -> None:
    again = tmp_path / packages["int4"].name
    files = language2coreml(LM, tiny_weights(LM).__getitem__, again, scheme=scheme_named("int4"))
    assert {f.relative_to(again) for f in files} == {
        f.relative_to(again) for f in again.rglob("*") if f.is_file()
    }
    for file in files:
        first = packages["int4"] / file.relative_to(again)
        assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(first.read_bytes()).digest(), (
            file.name
        )
        assert str(Path.cwd()).encode() not in file.read_bytes()


def test_to_open_a_package_leaves_its_bytes_alone(packages: dict[str, Path], tmp_path: Path) -> None:
    package = tmp_path / "fp16.mlpackage"
    files = language2coreml(LM, tiny_weights(LM).__getitem__, package, scheme=scheme_named("fp16"))
    before = [file.read_bytes() for file in files]
    Evaluated(package)  # coremltools' own way to open one
    assert [file.read_bytes() for file in files] == before


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    weights = tiny_weights(LM)
    weights["language.layers.1.mlp.up_proj.weight"] = weights["language.layers.1.mlp.up_proj.weight"].T
    with pytest.raises(IntegrityError, match=r"layers\.1\.mlp\.up_proj"):
        language2coreml(LM, weights.__getitem__, tmp_path / "a.mlpackage", scheme=scheme_named("fp16"))
    with pytest.raises(UsageError, match="blocks of 32"):
        language2coreml(
            TINY, tiny_weights(TINY).__getitem__, tmp_path / "b.mlpackage", scheme=scheme_named("int4")
        )
    assert not list(tmp_path.iterdir())
