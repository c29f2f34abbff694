"""The exported graphs in ONNX Runtime, twice: against the original's outputs, and against our own modules.

Where the first fails and the second holds, our modules are wrong; where the second fails, the export is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from golden import reference
from golden.reference import ASKED, PROMPTS
from tiny_language import tiny_manifest

from pam_edge.bundle.bundle import Bundle, file_ref
from pam_edge.bundle.manifest import Graph
from pam_edge.export.backends.onnxruntime.decoder import decoder_specs, language2onnx
from pam_edge.export.backends.onnxruntime.graphs import module2onnx
from pam_edge.export.checkpoint.checkpoint import load_language, load_perceiver, load_vision
from pam_edge.export.graphs.image_graphs import (
    STATELESS,
    GraphName,
    ImageEncoderGraph,
    MaskDecoderGraph,
    PerceiverGraph,
    graph_specs,
)
from pam_edge.export.graphs.video_graphs import MemoryAttentionGraph, MemoryEncoderGraph, PerceiverFrameGraph
from pam_edge.runtimes.common.registry import open_decoder, open_session
from pam_edge.runtimes.common.session import Decoder, Session

if TYPE_CHECKING:
    from pam_edge.export.checkpoint.checkpoint import Checkpoint

Array = npt.NDArray[Any]
Modules = dict[GraphName, torch.nn.Module]
LOGITS = 1e-4
STEPS = 12


@pytest.fixture(scope="module")
def modules(golden_checkpoint: Checkpoint) -> Modules:
    vision = load_vision(golden_checkpoint)
    return {
        "image_encoder": ImageEncoderGraph(vision),
        "mask_decoder": MaskDecoderGraph(vision),
        "perceiver": PerceiverGraph(load_perceiver(golden_checkpoint)),
        "memory_encoder": MemoryEncoderGraph(vision),
        "memory_attention": MemoryAttentionGraph(vision),
        "perceiver_frame": PerceiverFrameGraph(load_perceiver(golden_checkpoint)),
    }


@pytest.fixture(scope="module")
def bundle(
    golden_checkpoint: Checkpoint, modules: Modules, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """Every graph of the golden checkpoint, exported."""
    folder, variant = tmp_path_factory.mktemp("golden_bundle"), golden_checkpoint.variant
    decoder = language2onnx(variant.language, golden_checkpoint.tensor, folder)
    inputs, outputs = decoder_specs(variant.language)
    graphs = [Graph(name="decoder", files=tuple(map(file_ref, decoder)), inputs=inputs, outputs=outputs)]
    for name in STATELESS:
        inputs, outputs = graph_specs(variant, name)
        files = module2onnx(modules[name], inputs, outputs, folder / f"{name}.onnx")
        graphs.append(Graph(name=name, files=tuple(map(file_ref, files)), inputs=inputs, outputs=outputs))
    return Bundle(folder, tiny_manifest(variant, tuple(graphs), file_ref(decoder[2])))


@pytest.fixture(scope="module")
def sessions(bundle: Bundle) -> dict[GraphName, Session]:
    return {name: open_session(bundle, name) for name in STATELESS}


@pytest.fixture(scope="module")
def decoder(bundle: Bundle) -> Decoder:
    return open_decoder(bundle)


@pytest.fixture(scope="module")
def seen(sessions: dict[GraphName, Session]) -> dict[str, Array]:
    return sessions["image_encoder"].run({"image": reference.frame_pixels(0)})


def prompted(seen: dict[str, Array], points: dict[str, Array]) -> dict[str, Array]:
    """All inputs of the mask decoder for an image and its first prompt."""
    one, side = np.ones(1, np.float32), seen["high_res_0"].shape[-1]
    mask = np.zeros((1, 1, side, side), np.float32)
    return {**seen, "no_memory": one, "mask_prompt": mask, "has_mask": 0 * one, **points}


def region(sessions: dict[GraphName, Session], seen: dict[str, Array], name: str) -> dict[str, Array]:
    found = sessions["mask_decoder"].run(prompted(seen, reference.prompt_arrays(name)))
    tokens = sessions["perceiver"].run({key: found[key] for key in ("region_embed", "mask_tokens")})
    return found | tokens


def in_torch(
    module: torch.nn.Module, name: GraphName, feeds: dict[str, Array], bundle: Bundle
) -> dict[str, Array]:
    graph = bundle.graph(name)
    with torch.inference_mode():
        out = module(*(torch.from_numpy(feeds[spec.name]) for spec in graph.inputs))
    values = out if isinstance(out, tuple) else (out,)
    return {spec.name: value.numpy() for spec, value in zip(graph.outputs, values, strict=True)}


@pytest.mark.parametrize("name", PROMPTS)
def test_region_equals_the_originals(
    sessions: dict[GraphName, Session], seen: dict[str, Array], name: str
) -> None:
    assert reference.complaints(name, region(sessions, seen, name)) == []


@pytest.mark.parametrize(("name", "task"), ASKED)
def test_answers_equal_the_originals(
    sessions: dict[GraphName, Session],
    seen: dict[str, Array],
    decoder: Decoder,
    golden: dict[str, Array],
    name: str,
    task: str,
) -> None:
    """As the product does it: the visual prefix first, then the task on a branch of it."""
    tokens = region(sessions, seen, name)["region_tokens"][0]
    before, after = (decoder.embed(golden[f"{name}/{task}/ids_{side}"]) for side in ("before", "after"))
    decoder.rewind(0)
    decoder.prefill([np.concatenate([before, tokens])])
    branch = decoder.branch(1)
    steps, chosen = [branch.prefill([after])[0]], []
    for _ in range(STEPS):
        chosen.append(int(steps[-1].argmax()))
        steps.append(branch.step([chosen[-1]])[0])
    assert chosen == golden[f"{name}/{task}/greedy_ids"].tolist()
    # The original's step_logits[i] are those after greedy_ids[i].
    assert np.abs(np.stack(steps[1:]) - golden[f"{name}/{task}/step_logits"]).max() <= LOGITS
    assert np.abs(steps[0] - golden[f"{name}/{task}/logits_last"]).max() <= LOGITS


def test_both_answers_of_a_region_at_once(
    sessions: dict[GraphName, Session], seen: dict[str, Array], decoder: Decoder, golden: dict[str, Array]
) -> None:
    tokens = region(sessions, seen, "box")["region_tokens"][0]
    decoder.rewind(0)
    decoder.prefill([np.concatenate([decoder.embed(golden["box/recognize/ids_before"]), tokens])])
    branches = decoder.branch(2)
    tasks = ("recognize", "explain")
    logits = branches.prefill([decoder.embed(golden[f"box/{task}/ids_after"]) for task in tasks])
    chosen = []
    for _ in range(STEPS):
        chosen.append(logits.argmax(axis=-1).tolist())
        logits = branches.step(chosen[-1])
    for row, task in enumerate(tasks):
        assert [ids[row] for ids in chosen] == golden[f"box/{task}/greedy_ids"].tolist()


def close(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    """Equal but for the order of float32 sums."""
    assert found.keys() == wanted.keys()
    for key, theirs in wanted.items():
        assert np.abs(found[key] - theirs).max() <= 1e-5 * max(1.0, float(np.abs(theirs).max())), key


def test_exported_image_encoder_equals_its_module(
    modules: Modules, bundle: Bundle, sessions: dict[GraphName, Session]
) -> None:
    feeds = {"image": reference.frame_pixels(7)}
    close(
        sessions["image_encoder"].run(feeds),
        in_torch(modules["image_encoder"], "image_encoder", feeds, bundle),
    )


@pytest.mark.parametrize("points", [1, 2, 3, 9])
@pytest.mark.parametrize("kind", ["first frame", "conditioned", "mask"])
def test_exported_mask_decoder_equals_its_module(
    modules: Modules,
    bundle: Bundle,
    sessions: dict[GraphName, Session],
    seen: dict[str, Array],
    points: int,
    kind: str,
) -> None:
    """With any number of slots, one included, which exporters like to take for a constant."""
    rng = np.random.default_rng(points)
    feeds = prompted(
        seen,
        {
            "point_coords": rng.uniform(0, 1024, (1, points, 2)).astype(np.float32),
            "point_labels": rng.choice(np.array([-2, -1, 0, 1], np.float32), (1, points)),
        },
    )
    match kind:
        case "conditioned":
            feeds["no_memory"] = np.zeros(1, np.float32)
        case "mask":
            feeds["has_mask"] = np.ones(1, np.float32)
            feeds["mask_prompt"] = rng.normal(0, 8, feeds["mask_prompt"].shape).astype(np.float32)
    close(
        sessions["mask_decoder"].run(feeds),
        in_torch(modules["mask_decoder"], "mask_decoder", feeds, bundle),
    )


@pytest.mark.parametrize("name", ["perceiver", "perceiver_frame"])
def test_exported_perceiver_equals_its_module(
    modules: Modules, bundle: Bundle, sessions: dict[GraphName, Session], name: GraphName
) -> None:
    rng = np.random.default_rng(5)
    feeds = {
        spec.name: rng.standard_normal(spec.axes, dtype=np.float32) for spec in bundle.graph(name).inputs
    }
    close(sessions[name].run(feeds), in_torch(modules[name], name, feeds, bundle))


@pytest.mark.parametrize("prompted", [0, 1])
@pytest.mark.parametrize("score", [-1, 1])
def test_exported_memory_encoder_equals_its_module(
    modules: Modules,
    bundle: Bundle,
    sessions: dict[GraphName, Session],
    seen: dict[str, Array],
    prompted: int,
    score: int,
) -> None:
    side = seen["high_res_0"].shape[-1]
    y, x = np.mgrid[:side, :side]
    feeds = {
        "image_embed": seen["image_embed"],
        "masks": (30 - np.hypot(x - 90, y - 70)).astype(np.float32)[None, None] / 3,
        "object_score": np.full((1, 1), score, np.float32),
        "prompted": np.full(1, prompted, np.float32),
    }
    found = sessions["memory_encoder"].run(feeds)
    close(found, in_torch(modules["memory_encoder"], "memory_encoder", feeds, bundle))
    without = sessions["memory_encoder"].run({**feeds, "object_score": -feeds["object_score"]})
    assert np.abs(without["memory"] - found["memory"]).max() > 1e-3, "whether it is there is remembered"


def remembered(
    bundle: Bundle, seen: dict[str, Array], memories: int, pointers: int, seed: int
) -> dict[str, Array]:
    """Inputs of the memory attention with that many slots, all of them valid."""
    rng, free = np.random.default_rng(seed), {"memories": memories, "pointers": pointers}
    feeds = {
        spec.name: rng.standard_normal([free.get(str(a), a) for a in spec.axes], dtype=np.float32)
        for spec in bundle.graph("memory_attention").inputs
    }
    feeds["memory_age"] = np.arange(memories, dtype=np.float32)[None] % 7
    feeds["pointer_time"] = np.arange(pointers, dtype=np.float32)[None] / 15
    valid = {"memory_valid": np.ones((1, memories)), "pointer_valid": np.ones((1, pointers))}
    return feeds | {k: v.astype(np.float32) for k, v in valid.items()} | {"image_embed": seen["image_embed"]}


@pytest.mark.parametrize("slots", [(1, 1), (2, 5)])
def test_exported_memory_attention_equals_its_module(
    modules: Modules,
    bundle: Bundle,
    sessions: dict[GraphName, Session],
    seen: dict[str, Array],
    slots: tuple[int, int],
) -> None:
    """With any number of slots; and an empty one, whatever it holds, has no influence at all."""
    feeds = remembered(bundle, seen, *slots, seed=1)
    found = sessions["memory_attention"].run(feeds)
    close(found, in_torch(modules["memory_attention"], "memory_attention", feeds, bundle))
    if slots == (1, 1):
        spare = remembered(bundle, seen, 1, 2, seed=2)
        padded = {
            key: np.concatenate([value, 9 * spare[key] * (not key.endswith("valid"))], axis=1)
            for key, value in feeds.items()
            if key != "image_embed"
        }
        close(sessions["memory_attention"].run({**feeds, **padded}), found)


def test_exported_decoder_equals_its_module(golden_checkpoint: Checkpoint, decoder: Decoder) -> None:
    language = load_language(golden_checkpoint)
    rng = np.random.default_rng(5)
    embeds = rng.standard_normal((90, language.config.hidden_size), dtype=np.float32)
    decoder.rewind(0)
    found = [decoder.prefill([embeds[:80]])] + [decoder.prefill([embeds[i : i + 1]]) for i in range(80, 90)]
    with torch.inference_mode():
        logits, cache = language(torch.from_numpy(embeds[None, :80]))
        wanted = [logits]
        for i in range(80, 90):
            logits, cache = language(torch.from_numpy(embeds[None, i : i + 1]), cache)
            wanted.append(logits)
    assert np.abs(np.concatenate(found) - torch.cat(wanted).numpy()).max() <= LOGITS


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("slots", [4, 8])
def test_empty_slots_have_no_influence(
    sessions: dict[GraphName, Session], seen: dict[str, Array], name: str, slots: int
) -> None:
    plain, padded = (
        sessions["mask_decoder"].run(prompted(seen, reference.prompt_arrays(name, slots=n)))
        for n in (None, slots)
    )
    close(padded, plain)
    np.testing.assert_array_equal(padded["masks"] > 0, plain["masks"] > 0)


def test_files_tell_nothing_of_the_machine_that_made_them(bundle: Bundle) -> None:
    here = str(Path(__file__).parent.parent).encode()
    for graph in bundle.manifest.graphs:
        raw = bundle.path(graph.files[0]).read_bytes()
        assert here not in raw
        assert b"site-packages" not in raw
        assert {o.domain for o in onnx.load_from_string(raw).opset_import} <= {"", "com.microsoft"}
