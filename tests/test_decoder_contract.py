"""What every Decoder promises, asked of each. The reference is written from Qwen2's definition, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from engine_here import Made, made_once, plain, ready
from fake_tensorrt import built, cached_bundle
from reference_session import ReferenceSession
from tiny_language import TINY, tiny_bundle, tiny_package, tiny_pte, tiny_weights

from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import UsageError, WontFitError
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.kv_decoder import KvDecoder
from pam_edge.runtimes.common.registry import open_decoder, open_session
from pam_edge.runtimes.common.session import Decoder

# Two of them over the plain session of an engine: "session" of ONNX Runtime's file, "plain" of TensorRT's.
DECODERS = ("onnxruntime", "session", "reference", "plain", "tensorrt", "executorch", "coreml")
CLOSE = 2e-4  # float32, sums in different orders; logits are of order 10
HALF = 0.1  # float16 between operators
Same = Callable[[np.ndarray, np.ndarray], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same weights for each engine, made when first asked for."""

    def write(engine: str, folder: Path) -> Bundle:
        match engine:
            case "onnxruntime":
                return tiny_bundle(folder)
            case "tensorrt":
                return built(cached_bundle(folder))
            case "executorch":
                return tiny_pte(folder)
            case _:
                return tiny_package(folder)

    return made_once(tmp_path_factory, write)


@pytest.fixture(params=DECODERS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, made: Made) -> str:
    """Which decoder, what it needs being there."""
    return ready(request, monkeypatch, made)


def new(kind: str, made: Made) -> Decoder:
    match kind:
        case "onnxruntime" | "executorch":
            return open_decoder(made(kind), threads=1)
        case "tensorrt" | "coreml":
            return open_decoder(made(kind))
        case "session":
            bundle = made("onnxruntime")
            return KvDecoder(open_session(bundle, "decoder", threads=1), TINY, TokenTable.open(bundle))
        case "plain":
            return open_decoder(plain(made), threads=1)
        case _:
            weights = tiny_weights(TINY)
            table = TokenTable(weights["language.embed_tokens.weight"])
            return KvDecoder(ReferenceSession(TINY, weights), TINY, table)


@pytest.fixture
def decoder(kind: str, made: Made) -> Decoder:
    return new(kind, made)


@pytest.fixture
def fresh(kind: str, made: Made) -> Decoder:
    """Another decoder of the same kind, empty."""
    return new(kind, made)


@pytest.fixture
def same(kind: str) -> Same:
    """Equal but for the rounding of such a decoder."""

    def check(a: np.ndarray, b: np.ndarray) -> None:
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=HALF if kind == "coreml" else CLOSE, rtol=0)

    return check


def prompt(length: int, seed: int = 0) -> np.ndarray:
    """[length, hidden]: not token embeddings, as visual tokens are not."""
    rng = np.random.default_rng([seed, length])
    return rng.standard_normal((length, TINY.hidden_size), dtype=np.float32)


def greedy(decoder: Decoder, logits: np.ndarray, count: int) -> list[list[int]]:
    """The next `count` tokens of every row, by row."""
    found = []
    for _ in range(count):
        found.append(logits.argmax(axis=-1).tolist())
        logits = decoder.step(found[-1])
    return [list(row) for row in zip(*found, strict=True)]


@pytest.mark.parametrize("length", [1, 9, 300, 640])  # within the first cache, past it, past a chunk
def test_every_decoder_answers_like_the_reference(
    decoder: Decoder, made: Made, same: Same, length: int
) -> None:
    reference = new("reference", made)
    logits, wanted = decoder.prefill([prompt(length)]), reference.prefill([prompt(length)])
    assert logits.shape == (1, TINY.vocab_size)
    same(logits, wanted)
    for _ in range(12):
        token = wanted.argmax(axis=-1).tolist()
        logits, wanted = decoder.step(token), reference.step(token)
        same(logits, wanted)
    assert decoder.lengths == (length + 12,)


def test_position_and_order_matter(decoder: Decoder, fresh: Decoder) -> None:
    there, back = decoder.prefill([prompt(9)]), fresh.prefill([prompt(9)[::-1].copy()])
    assert np.abs(there - back).max() > 1


def test_prefill_equals_steps(decoder: Decoder, fresh: Decoder, same: Same) -> None:
    tokens = [5, 17, 96, 0, 33]
    whole = decoder.prefill([decoder.embed(tokens)])
    for token in tokens:
        logits = fresh.step([token])
    same(whole, logits)
    assert decoder.lengths == fresh.lengths == (5,)


def test_prefill_in_parts_equals_prefill_at_once(decoder: Decoder, fresh: Decoder, same: Same) -> None:
    whole = decoder.prefill([prompt(60)])
    for part in (prompt(60)[:1], prompt(60)[1:40], prompt(60)[40:]):
        logits = fresh.prefill([part])
    same(whole, logits)


def test_branches_equal_separate_runs(decoder: Decoder, fresh: Decoder, same: Same) -> None:
    prefix, tails = prompt(270), [prompt(n, seed=n) for n in (3, 11, 1, 7)]
    decoder.prefill([prefix])
    branches = decoder.branch(4)
    assert branches.lengths == (270,) * 4
    logits = branches.prefill(tails)
    assert branches.lengths == (273, 281, 271, 277)
    answers = greedy(branches, logits, 8)
    for row, tail in enumerate(tails):
        fresh.rewind(0)
        alone = fresh.prefill([np.concatenate([prefix, tail])])
        same(logits[row], alone[0])
        assert answers[row] == greedy(fresh, alone, 8)[0]


def test_a_branch_leaves_its_parent_alone(decoder: Decoder, fresh: Decoder, same: Same) -> None:
    for each in (decoder, fresh):
        each.prefill([prompt(20)])
    branch = decoder.branch(2)
    branch.prefill([prompt(3), prompt(30)])
    assert decoder.lengths == (20,)
    same(decoder.step([4]), fresh.step([4]))
    again = decoder.branch(1)
    decoder.rewind(0)
    decoder.prefill([prompt(21, seed=9)])  # nor does the parent reach into its branches
    same(again.step([7]), fresh.step([7]))


def test_rewound_equals_fresh(decoder: Decoder, fresh: Decoder, same: Same) -> None:
    decoder.prefill([prompt(40)])
    decoder.step([3])
    decoder.rewind(25)
    assert decoder.lengths == (25,)
    fresh.prefill([prompt(40)[:25]])
    same(decoder.prefill([prompt(9, seed=1)]), fresh.prefill([prompt(9, seed=1)]))
    decoder.rewind(100)  # nothing lies there
    assert decoder.lengths == (34,)


def test_rewind_shortens_only_longer_rows(decoder: Decoder) -> None:
    rows = decoder.branch(2)
    rows.prefill([prompt(5), prompt(12)])
    rows.rewind(8)
    assert rows.lengths == (5, 8)


def test_kept_rows_never_had_the_others(decoder: Decoder, fresh: Decoder, same: Same) -> None:
    tails = [prompt(n, seed=n) for n in (6, 2, 9)]
    decoder.prefill([prompt(15)])
    fresh.prefill([prompt(15)])
    three, two = decoder.branch(3), fresh.branch(2)
    three.prefill(tails)
    two.prefill([tails[2], tails[0]])
    three.step([1, 2, 3])
    two.step([3, 1])
    three.keep([2, 0])
    assert three.lengths == two.lengths == (25, 22)
    for tokens in ([8, 9], [10, 11]):
        same(three.step(tokens), two.step(tokens))
    three.keep([1])
    same(three.step([12]), two.step([13, 12])[1:])


def test_rows_grow_past_their_first_cache_together(decoder: Decoder, fresh: Decoder, same: Same) -> None:
    rows = decoder.branch(2)
    rows.prefill([prompt(254, seed=1), prompt(10, seed=2)])
    answers = [rows.step([t, t + 1]) for t in range(5)]
    fresh.prefill([prompt(254, seed=1)])
    alone = [fresh.step([t]) for t in range(5)]
    for both, one in zip(answers, alone, strict=True):
        same(both[:1], one)


def test_a_full_cache_is_said_before_anything_happens(decoder: Decoder) -> None:
    rows = decoder.branch(2)
    rows.prefill([prompt(TINY.max_length - 1), prompt(4)])
    rows.step([1, 2])
    with pytest.raises(WontFitError, match=f"{TINY.max_length + 1} positions .* at most {TINY.max_length}"):
        rows.step([1, 2])
    with pytest.raises(WontFitError):
        rows.prefill([prompt(1), prompt(1)])
    assert rows.lengths == (TINY.max_length, 5)
    rows.keep([1])
    rows.step([1])  # the other row had room all along


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.prefill([]),
        lambda d: d.prefill([prompt(2), prompt(2)]),
        lambda d: d.prefill([prompt(2)[:0]]),
        lambda d: d.prefill([prompt(2)[:, :5]]),
        lambda d: d.prefill([prompt(2).astype(np.float64)]),
        lambda d: d.step([]),
        lambda d: d.step([1, 2]),
        lambda d: d.step([-1]),
        lambda d: d.step([TINY.vocab_size]),
        lambda d: d.branch(0),
        lambda d: d.branch(2).branch(2),
        lambda d: d.keep([]),
        lambda d: d.keep([1]),
        lambda d: d.keep([0, 0]),
        lambda d: d.rewind(-1),
    ],
)
def test_senseless_calls_are_refused(decoder: Decoder, call) -> None:
    decoder.prefill([prompt(3)])
    with pytest.raises(UsageError):
        call(decoder)
    assert decoder.lengths == (3,)


def test_embed_gathers_rows(decoder: Decoder) -> None:
    table = tiny_weights(TINY)["language.embed_tokens.weight"]
    rows: Sequence[int] = [3, 0, 96, 3]
    found = decoder.embed(rows)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, table[rows])
    assert decoder.embed([]).shape == (0, TINY.hidden_size)
