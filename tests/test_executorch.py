"""What module2pte and its runtime promise of any module, asked of ones that are lowered in seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from executorch.runtime import Runtime
from pool_graph import INPUTS, OUTPUTS, Pool, spec
from tiny_language import tiny_manifest, tiny_pte, tiny_weights
from torch import Tensor, nn

from pam_edge.bundle.bundle import Bundle, file_ref
from pam_edge.bundle.config import NANO, LanguageConfig
from pam_edge.bundle.manifest import Graph
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError, WontFitError
from pam_edge.export.backends.executorch import graphs as exporter
from pam_edge.export.backends.executorch.decoder import ROWS
from pam_edge.export.backends.executorch.graphs import module2pte
from pam_edge.export.backends.executorch.weights import filled, in_8_bits, weight_noise
from pam_edge.quantize.schemes import SCHEMES, Rule, Scheme
from pam_edge.runtimes.common.registry import open_session
from pam_edge.runtimes.executorch.etdump import DELEGATE, executions
from pam_edge.runtimes.executorch.session import EtDecoder, EtSession
from pam_edge.verify.error_metrics import noise

# Widths that divide into blocks of 32.
EVEN = LanguageConfig(
    vocab_size=97, hidden_size=64, layers=1, heads=4, kv_heads=2, mlp=128, head_dim=16, max_length=96
)


MOST = {"count": 20}


def bundled(path: Path, inputs=INPUTS, outputs=OUTPUTS, runtime: str = "executorch") -> Bundle:
    """A bundle of one graph, `pool`."""
    ref = file_ref(path)
    graph = Graph(name="pool", files=(ref,), inputs=inputs, outputs=outputs)
    manifest = msgspec.structs.replace(tiny_manifest(NANO, (graph,), ref), runtime=runtime)
    return Bundle(path.parent, manifest)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return module2pte(Pool(), INPUTS, OUTPUTS, tmp_path_factory.mktemp("pool") / "pool.pte", most=MOST)


def points(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    return {
        "points": rng.standard_normal((1, count, 2), dtype=np.float32),
        "bias": np.ones(512, np.float32),
    }


def close(found: dict[str, np.ndarray], wanted: tuple[Tensor, ...], atol: float = 1e-5) -> None:
    for ours, theirs in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=atol)


def test_named_axes_are_free_up_to_their_most(pool: Path) -> None:
    session, module = EtSession(bundled(pool), "pool", threads=1), Pool()
    for count in (1, 2, 20, 3):
        feeds = points(count)
        found = session.run(feeds)
        with torch.inference_mode():
            close(found, module(*map(torch.from_numpy, feeds.values())))
    with pytest.raises(
        UsageError, match=r"points is \[1, 21, 2\] where this bundle takes at most \[1, 20, 2\]"
    ):
        session.run(points(21))
    with pytest.raises(UsageError, match="lacks input bias"):
        session.run({"points": points(2)["points"]})


def test_a_trace_tells_what_each_call_s_operators_took(pool: Path) -> None:
    session = EtSession(bundled(pool), "pool", threads=1, traced=True)
    for count in (2, 20, 3):
        session.run(points(count))
    calls = session.trace()["pool"]
    assert len(calls) == 3
    for call in calls:
        assert call.operators[DELEGATE] and all(ns >= 0 for took in call.operators.values() for ns in took)
        assert 0 <= call.rest < call.ns
    with pytest.raises(IntegrityError, match="no ETDump"):
        executions(b"no trace of anything")


def test_read_only_and_strided_feeds_are_taken(pool: Path) -> None:
    session, feeds = EtSession(bundled(pool), "pool"), points(6)
    wanted = session.run(feeds)
    doubled = np.repeat(feeds["points"], 2, axis=1)[:, ::2]
    feeds["bias"].flags.writeable = False
    for name, value in session.run({**feeds, "points": doubled}).items():
        np.testing.assert_array_equal(value, wanted[name])


def test_the_file_names_no_place_of_this_machine(pool: Path) -> None:
    held = pool.read_bytes()
    assert b"site-packages" not in held and str(Path(__file__).parents[1]).encode() not in held


def test_a_file_that_is_not_what_the_manifest_says_is_refused(pool: Path, tmp_path: Path) -> None:
    for inputs, outputs in (
        ((INPUTS[0], spec("bias", 511)), OUTPUTS),
        (INPUTS[:1], OUTPUTS),
        (INPUTS, (OUTPUTS[0], spec("each", 1, "count", 511))),
    ):
        with pytest.raises(IntegrityError, match="export again"):
            EtSession(bundled(pool, inputs, outputs), "pool")
    damaged = tmp_path / "pool.pte"
    damaged.write_bytes(b"no program" * 100)
    with pytest.raises(IntegrityError, match=r"ExecuTorch refuses .*pool\.pte"):
        EtSession(bundled(damaged), "pool")


def test_a_wrong_cut_is_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"where .* was meant"):
        module2pte(Pool(), INPUTS, OUTPUTS[::-1], tmp_path / "pool.pte", most=MOST)
    assert not list(tmp_path.iterdir())


def test_layers_in_8_bits_give_floats_of_each_positions_own_range(pool: Path, tmp_path: Path) -> None:
    second = Scheme(
        "second", "", (Rule("w8a8", graph="pool", tensor="second.weight", dimensions=2, elements=512 * 512),)
    )
    module = in_8_bits(Pool(), second, "pool")
    path = module2pte(module, INPUTS, OUTPUTS, tmp_path / "small.pte", most=MOST)
    assert path.stat().st_size < 0.4 * pool.stat().st_size
    feeds = points(15)
    feeds["points"][:, ::2] *= np.float32(100)  # one range for all would leave little of the others
    wanted, found = (EtSession(bundled(file), "pool").run(feeds)["each"][0] for file in (pool, path))
    lost = [noise(a, b) for a, b in zip(found, wanted, strict=True)]
    assert 1e-4 < max(lost) < 0.03


def test_a_file_for_the_gpu_is_written_here_and_says_that_it_runs_elsewhere(tmp_path: Path) -> None:
    path = module2pte(Pool(), INPUTS, OUTPUTS, tmp_path / "pool.pte", most=MOST, gpu=True)
    assert b"VulkanBackend" in path.read_bytes()
    with pytest.raises(EnvironmentProblem, match="no VulkanBackend: run the bundle in an Android app"):
        open_session(bundled(path, runtime="executorch_vulkan"), "pool")


class Attention(nn.Module):
    """2,048 queries, two heads, and keys of which a mask hides some."""

    def forward(self, query: Tensor, mask: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, query * 0.5, query + 1, attn_mask=mask)


class Kept(nn.Module):
    """A cache in the file: writes rows and tells every row's sum."""

    held: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("held", torch.zeros(4, 16))

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        self.held.index_copy_(0, place, x.repeat(1, 16).cumsum(1)[:, :16])
        return self.held.sum(1)


@pytest.mark.parametrize("shared", [False, True])
def test_why_no_cache_lies_in_the_file(tmp_path: Path, shared: bool) -> None:
    """Planned as by default, two methods put it in places of their own and nothing says so."""
    methods = {
        name: torch.export.export(Kept(), (torch.ones(rows, 16), torch.arange(rows)), strict=False)
        for name, rows in (("prefill", 2), ("step", 1))
    }
    plan = MemoryPlanningPass(**({"share_mutable_buffers": True} if shared else {}))
    program = to_edge_transform_and_lower(methods, partitioner=[XnnpackPartitioner()]).to_executorch(
        ExecutorchBackendConfig(memory_planning_pass=plan)
    )
    path = tmp_path / "kept.pte"
    with path.open("wb") as file:
        program.write_to_file(file)
    loaded = Runtime.get().load_program(path)
    prefill, step = loaded.load_method("prefill"), loaded.load_method("step")
    prefill.execute([torch.ones(2, 16), torch.arange(2)])
    sums = step.execute([torch.ones(1, 16), torch.tensor([2])])[0].tolist()
    assert (sums == [136, 136, 136, 0]) is shared, sums


def test_attention_in_parts_is_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "SCORES", 1 << 21)  # four parts
    inputs, outputs = (
        (spec("query", 1, 2, 2048, 8), spec("mask", 1, 1, 1, 2048)),
        (spec("out", 1, 2, 2048, 8),),
    )
    path = module2pte(Attention(), inputs, outputs, tmp_path / "pool.pte", most={})
    rng = np.random.default_rng(0)
    feeds = {
        "query": rng.standard_normal((1, 2, 2048, 8), dtype=np.float32),
        "mask": np.where(rng.random((1, 1, 1, 2048)) < 0.3, np.float32(-3e4), np.float32(0)),
    }
    found = EtSession(bundled(path, inputs, outputs), "pool").run(feeds)
    with torch.inference_mode():
        close(found, (Attention()(*map(torch.from_numpy, feeds.values())),))


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_the_decoder_in_integers_is_the_rounded_one(tmp_path: Path, name: str) -> None:
    scheme = next(s for s in SCHEMES if s.name == name)
    bundle, weights = tiny_pte(tmp_path, EVEN, scheme), tiny_weights(EVEN)
    module = filled(EVEN, lambda key: torch.from_numpy(weights[key]), scheme)
    prompt = np.random.default_rng(1).standard_normal((20, EVEN.hidden_size), dtype=np.float32)
    empty = [torch.zeros(1, 2, *shape) for _ in range(EVEN.layers) for shape in ((16, 1), (1, 16))]
    with torch.inference_mode():
        wanted = module(torch.from_numpy(prompt[None]), torch.arange(20)[None], torch.zeros(1, 1), empty)[0]
    decoder = EtDecoder(bundle, threads=1)
    found = decoder.prefill([prompt])
    assert noise(found[0], wanted.numpy()[0]) < 0.03  # the engine rounds activations its own way
    floats = filled(EVEN, lambda key: torch.from_numpy(weights[key]), SCHEMES[0])
    with torch.inference_mode():
        exact = floats(torch.from_numpy(prompt[None]), torch.arange(20)[None], torch.zeros(1, 1), empty)[0]
    assert noise(found[0], exact.numpy()[0]) > 0.002  # nothing was rounded otherwise
    lost, _ = weight_noise(EVEN, weights.__getitem__, scheme)
    assert 0.002 < lost < (0.03 if name == "int8" else 0.2)


def test_the_cache_is_neither_planned_nor_written_by_the_engine(tmp_path: Path) -> None:
    decoder = EtDecoder(tiny_pte(tmp_path, EVEN), threads=1, traced=True)
    meta = decoder._loaded._method.metadata
    assert not any(meta.input_tensor_meta(i).is_memory_planned() for i in range(meta.num_inputs()))
    decoder.prefill([np.ones((5, EVEN.hidden_size), np.float32)])
    for i, array in enumerate(decoder._cache.arrays):
        later = array[0, :, 5:] if i % 2 else array[0, :, :, 5:]
        assert array.any() and not later.any()
    rows = decoder.branch(ROWS + 2).step([3] * (ROWS + 2))  # more than a call takes
    np.testing.assert_allclose(rows, np.broadcast_to(rows[:1], rows.shape), atol=1e-4)
    assert {kind: len(calls) for kind, calls in decoder.trace().items()} == {
        "decoder, prompt": 1,
        "decoder, step": 2,
    }
    with pytest.raises(WontFitError, match=r"97 positions .* at most 96"):
        decoder.prefill([np.ones((92, EVEN.hidden_size), np.float32)])


def test_without_the_engine_it_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['executorch'] = None\n"
        "from pam_edge.core.errors import EnvironmentProblem\n"
        "for name in ('runtimes.executorch.session', 'export.backends.executorch.graphs'):\n"
        "    try:\n"
        "        __import__(f'pam_edge.{name}')\n"
        "    except EnvironmentProblem as e:\n"
        "        print(e)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.count("pip install 'pam-edge[") == 2
