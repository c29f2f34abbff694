"""`pam-edge bench claims`: published ratios, rebuilt shapes at toy sizes, interleaved sides, verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from command import pam_edge, refused
from test_peers import job
from test_rows import HERE, ROW

from pam_edge.benchmarks.harness.iterations import Side, Started, interleave, open_sides
from pam_edge.benchmarks.harness.messages import Iteration
from pam_edge.benchmarks.harness.row_builder import Subject, Who
from pam_edge.benchmarks.harness.rows import Row, against, put_rows, read_rows
from pam_edge.benchmarks.harness.watching import forget_peak, memory
from pam_edge.benchmarks.paper_claims import check, verdict
from pam_edge.benchmarks.paper_claims.check import Ask, read_parts
from pam_edge.benchmarks.paper_claims.make import make
from pam_edge.benchmarks.paper_claims.original import open_original
from pam_edge.benchmarks.paper_claims.outcome import MADE, Held, measured, ratios
from pam_edge.benchmarks.paper_claims.published import claimed, claims
from pam_edge.benchmarks.paper_claims.side import Rebuilt
from pam_edge.benchmarks.paper_claims.systems import (
    DAM_3B,
    FERRET_7B,
    NOT_REBUILT,
    SYSTEMS,
    VIDEOREFER_7B,
    System,
    as_word,
    of_word,
    pam_parameters,
)
from pam_edge.benchmarks.paper_claims.towers import Connector, Downsample, cuts
from pam_edge.benchmarks.report import claims as section
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import PAM_3B
from pam_edge.core.errors import EnvironmentProblem, QualityError
from pam_edge.quantize.schemes import scheme_named


def small(system: System, **changed: object) -> System:
    """The system at toy sizes: the same graphs, a side of 5 patches."""
    language = msgspec.structs.replace(
        system.language, vocab_size=300, hidden_size=64, layers=1, heads=4,
        kv_heads=4 if system.language.kv_heads == system.language.heads else 2, mlp=96, head_dim=16,
    )  # fmt: skip
    tower = replace(system.tower, image=42, patch=8, width=32, layers=2, heads=2, mlp=48)
    return replace(system, language=language, tower=tower, frames=min(4, system.frames), **changed)


def test_ratios_are_those_of_the_figure() -> None:
    assert claimed("pam-3b", "DAM-3B", "image", "time") == pytest.approx(1.34, abs=0.005)
    assert claimed("pam-3b", "DAM-3B", "image", "memory") == pytest.approx(10.1 / 9.1)
    # Here the figure itself has PAM take more.
    assert claimed("pam-3b", "DAM-3B", "video", "memory") == pytest.approx(12.1 / 12.5)
    times = [claim.factor for claim in claims() if claim.quantity == "time"]
    assert min(times) > 1.2 and max(times) < 2.4  # "1.2 to 2.4 x faster"
    assert claimed("pam-3b", "DAM-3B", "image", "time") != claimed("pam-3b", "DAM-3B", "video", "time")
    assert claimed("pam-3b", "VideoRefer-7B", "image", "time") is None
    assert claimed("pam-1.5b", "DAM-3B", "image", "time") is None  # nothing is published of that one
    named = {claim.system for claim in claims()}
    assert named == {s.name for s in SYSTEMS} | NOT_REBUILT.keys()


@pytest.mark.parametrize(
    ("system", "published"),  # bytes of its published files in 16 bits
    [(DAM_3B, 7.12e9), (VIDEOREFER_7B, 16.86e9)],
)
def test_shapes_weigh_what_the_published_files_weigh(system: System, published: float) -> None:
    assert 2 * system.parameters == pytest.approx(published, rel=0.015)


def test_counts_that_the_sources_give() -> None:
    assert DAM_3B.visual_tokens("image") == 196 and DAM_3B.visual_tokens("video") == 8 * 196
    assert FERRET_7B.visual_tokens("image") == 576 and VIDEOREFER_7B.visual_tokens("video") == 1352
    blocks = 27 * (4 * 1152**2 + 2 * 1152 * 4304)
    assert 2 * blocks == pytest.approx(823e6, rel=0.002)  # the focal prompt's published file
    assert pam_parameters(PAM_3B) == pytest.approx(3.32e9, rel=0.01)
    assert of_word(as_word(DAM_3B)) == DAM_3B


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.key)
def test_parameters_are_those_of_the_modules(system: System) -> None:
    tiny = small(system)
    held = {id(p): p for _, module, _, _ in cuts(tiny) for p in module.parameters()}  # shared ones once
    weights = [p for p in held.values() if p.dim() in (2, 4) and p.shape[1] > 1]  # no depthwise ones
    assert sum(p.numel() for p in weights) == tiny.vision_parameters


def test_fours_are_joined_as_a_square_with_an_edge_of_zeros() -> None:
    tower = replace(small(DAM_3B).tower, width=3)
    module = Downsample(tower, 7)
    module.norm, module.fc1, module.fc2 = (torch.nn.Identity() for _ in range(3))
    x = torch.rand(1, 25, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.functional.gelu", lambda x: x)
        joined = module(x)
    square = torch.nn.functional.pad(x.reshape(5, 5, 3), (0, 0, 0, 1, 0, 1))
    assert joined.shape == (1, 9, 12)
    assert torch.equal(joined[0, 4], square[2:4, 2:4].reshape(12))
    assert torch.equal(joined[0, 8, 3:], torch.zeros(9))  # the corner has one patch


def test_the_connector_s_middle_is_a_convolution_of_two_by_two_by_two() -> None:
    tower = replace(small(VIDEOREFER_7B).tower, width=6)
    module = Connector(tower, 6)
    module.before, module.after = torch.nn.Identity(), torch.nn.Identity()
    module.fc1, module.fc2 = torch.nn.Identity(), torch.nn.Identity()
    features = torch.rand(4, 25, 6)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("torch.nn.functional.gelu", lambda x: x)
        tokens = module(features)
        kernel = module.join.weight.reshape(6, 2, 2, 2, 6).permute(0, 4, 1, 2, 3)
        clip = features.reshape(4, 5, 5, 6).permute(3, 0, 1, 2)[None]
        wanted = torch.nn.functional.silu(
            torch.nn.functional.conv3d(clip, kernel, module.join.bias, stride=2)
        )
    assert wanted.shape == (1, 6, 2, 2, 2)  # the fifth row and column drop
    assert torch.allclose(tokens[0], wanted[0].reshape(6, 8).T, atol=1e-5)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[System, Path]]:
    """Every system at toy sizes, made as real ones are."""
    place = tmp_path_factory.mktemp("models")
    found = {}
    for system in map(small, SYSTEMS):
        make(system, place / system.key, scheme_named("int4"))
        found[system.key] = (system, place / system.key)
    return found


@pytest.mark.parametrize("key", [s.key for s in SYSTEMS])
def test_a_rebuilt_system_is_stored_as_pam_is_and_makes_an_iteration(
    key: str, models: dict[str, tuple[System, Path]]
) -> None:
    system, folder = models[key]
    graphs = {graph.name: graph for graph in Bundle.open(folder).manifest.graphs}
    tower = onnx.load(folder / graphs["tower"].files[0].path)
    products = [node.op_type for node in tower.graph.node]
    assert products.count("MatMulIntegerToFloat") == 6 * system.tower.layers + (system.bridge == "linear")
    assert products.count("MultiHeadAttention") == system.tower.layers
    words = onnx.load(folder / "decoder.onnx", load_external_data=False)
    assert sum(node.op_type == "MatMulNBits" for node in words.graph.node) == 5 + 1  # and the head
    for task in system.tasks:
        found = Rebuilt(folder, 1, system).open(task)(3)
        assert found.keys() == {"vision", "prefill", "decode", "total"}
        assert min(found.values()) > 0
        assert found["vision"] + found["prefill"] + found["decode"] == found["total"]


def test_a_system_that_reads_another_number_of_tokens_is_no_sample(
    models: dict[str, tuple[System, Path]],
) -> None:
    system, folder = models["dam-3b"]
    odd = replace(system, bridge="linear")
    with pytest.raises((QualityError, KeyError)):
        Rebuilt(folder, 1, odd).open("image")(3)
    clip = replace(system, frames=3)
    assert Rebuilt(folder, 1, clip).open("video")(2)["total"] > 0
    monkeyed = replace(system, tower=replace(system.tower, patch=6))
    with pytest.raises(QualityError, match=r"reads 9 tokens; 16 were meant"):
        Rebuilt(folder, 1, monkeyed).open("image")(3)


def test_the_original_says_as_much() -> None:
    assert open_original("nano", "image")(3)["total"] > 0
    spent = open_original("nano", "video")(3)
    assert spent["total"] > spent["vision"] > 0


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, models: dict[str, tuple[System, Path]]) -> list[Row]:
    """What the whole check gives with nano and toy systems."""
    cache = tmp_path_factory.mktemp("cache")
    for key, (_, folder) in models.items():
        (cache / "claims").mkdir(exist_ok=True)
        (cache / "claims" / f"{key}-int4").symlink_to(folder)
    systems = tuple(models[key][0] for key in ("dam-3b", "videorefer-7b"))
    out = cache / "rows.jsonl"
    ask = Ask(
        cache=cache, bundle=Path("nano"), variant="nano", scheme="int4", parts=("image", "video", "original"),
        systems=systems, threads=1, tokens=4, rounds=2, warmup=0, busy=True, clean=False,
    )  # fmt: skip
    said: list[str] = []
    check.check(ask, lambda found: put_rows(out, found), said.append)
    assert any("loading" in text for text in said)
    return read_rows(out)


def one(rows: list[Row], **wanted: str) -> Row:
    task, other = wanted.pop("task"), wanted.pop("against", None)
    (found,) = [
        row
        for row in rows
        if row.settings.get("task") == task
        and (row.against.side if row.against else None) == other
        and all(getattr(row, name) == value for name, value in wanted.items())
        and (row.measure != "weights" or "how" in row.settings)
    ]
    return found


def test_every_side_has_its_rows_and_every_round_its_sample(rows: list[Row]) -> None:
    assert rows[0].part == "bandwidth"
    for task, sides in {
        "image": ("pam-edge", "DAM-3B", "pytorch"),
        "video": ("pam-edge", "DAM-3B", "VideoRefer-7B", "pytorch"),
    }.items():
        for side in sides:
            assert len(one(rows, task=task, side=side, measure="total").samples) == 2
            peak = one(rows, task=task, side=side, measure="peak memory")
            assert peak.unit == "bytes" and min(peak.samples) > 10 << 20
            counted = [row for row in rows if row.measure == "weights" and row.side == side]
            assert bool(counted) == (side in ("DAM-3B", "VideoRefer-7B"))  # nano's are not counted
    vision = one(rows, task="video", side="pam-edge", measure="vision").samples
    masks = one(rows, task="video", side="pam-edge", measure="masks").samples
    assert all(0 < mask <= whole for mask, whole in zip(masks, vision, strict=True))


def test_ratios_are_of_the_same_rounds(rows: list[Row]) -> None:
    ours = one(rows, task="image", side="pam-edge", measure="total")
    theirs = one(rows, task="image", side="DAM-3B", measure="total")
    ratio = one(rows, task="image", side="pam-edge", measure="total", against="DAM-3B").against
    assert ratio is not None and ratio.samples == theirs.samples
    assert ratio.goal is None  # nano is not what the figure is about
    assert ratio.factor == pytest.approx(np.median(theirs.samples) / np.median(ours.samples))
    masks = one(rows, task="image", side="pam-edge", measure="masks").samples
    made = one(rows, task="image", side="pam-edge", measure="total", against=f"DAM-3B, {MADE}").against
    assert made is not None
    assert made.samples == tuple(a + b for a, b in zip(theirs.samples, masks, strict=True))
    peak = one(rows, task="image", side="DAM-3B", measure="peak memory")
    held = one(rows, task="image", side="pam-edge", measure="peak memory", against="DAM-3B").against
    twice = int(peak.figures["held_twice_bytes"])
    assert held is not None and twice > 0 and held.samples == tuple(p - twice for p in peak.samples)
    assert one(rows, task="image", side="pam-edge", measure="total", against="pytorch").against is not None


def test_what_is_not_measured_says_why(rows: list[Row]) -> None:
    reasons = {(row.settings["task"], row.side): row.error for row in rows if row.error}
    assert reasons.keys() == {
        *(("image", name) for name in ("LLaVA-OV-7B", "VP-SPHINX-13B", "Omni-RGPT-7B", "Ferret-7B")),
        *(("video", name) for name in ("LLaVA-OV-7B", "Omni-RGPT-7B")),
    }
    assert "left out by --systems" in reasons["image", "Ferret-7B"]
    found = {(f.claim.system, f.claim.task, f.claim.quantity): f for f in verdict.findings(rows)}
    assert len(found) == len(claims())
    assert found["Omni-RGPT-7B", "video", "time"].verdict == "not measured"
    assert "no public code" in found["Omni-RGPT-7B", "video", "time"].why
    assert found["DAM-3B", "image", "time"].verdict == "not measured"  # of PAM-3B


def test_what_was_measured_is_kept_iteration_by_iteration(tmp_path: Path) -> None:
    class Asleep:
        pid, rest = 1, staticmethod(lambda: None)

    def good() -> Iteration:
        return Iteration(samples={"total": [10], "masks": [4]})

    def bad() -> Iteration:
        raise EnvironmentProblem("it went away")

    kept: list[list[Row]] = []
    sides = {}
    for name, iterate in (("pam-edge", good), ("DAM-3B", bad)):
        started = Started(Asleep(), iterate, Who(name, "int4", name))
        sides[name] = Held(Side(started.who, lambda stack, started=started: started), 1, 1)
    about = Subject("claims", "pam-3b", 2, {"task": "image"})

    def keep() -> None:
        kept.append(measured(job(tmp_path), about, "image", sides))

    found = [one.side for one in sides.values()]
    with open_sides(found, lambda text: None):
        interleave(found, repeat=2, warmup=1, tell=lambda text: None, after_each=keep)
    assert [[len(row.samples) for row in rows if row.measure == "total"] for rows in kept] == [[1, 0], [2, 0]]
    assert [row.error for row in kept[0] if row.side == "DAM-3B"] == ["it went away"]


def full(rows: list[Row]) -> list[Row]:
    """The same rows as if the variant were the figure's."""
    return [msgspec.structs.replace(row, variant="pam-3b") for row in rows]


def test_published_ratios_are_goals_of_pam_3b_alone(tmp_path: Path) -> None:
    held = {}
    for name, total, peak in (("pam-edge", 10, 100), ("DAM-3B", 20, 130), ("pytorch", 90, 900)):
        samples = {"total": [total] * 3, "peak memory": [peak] * 3, "masks": [4] * 3}
        side = Side(Who(name, "int4", name), lambda stack: pytest.fail("not started here"), samples=samples)
        held[name] = Held(side, 1, 1, 30 if name == "DAM-3B" else 0)
    found = ratios(job(tmp_path), Subject("claims", "pam-3b", 2, {"task": "image"}), "image", held)
    told = {(row.measure, row.against.side): row.against for row in found if row.against}
    assert told["total", "DAM-3B"].goal == pytest.approx(1.41 / 1.05) and told["total", "DAM-3B"].factor == 2
    assert told["total", f"DAM-3B, {MADE}"].factor == 2.4
    assert told["peak memory", "DAM-3B"].samples == (100, 100, 100)
    assert told["peak memory", "DAM-3B"].goal == pytest.approx(10.1 / 9.1)
    assert told["total", "pytorch"].goal is None and f"pytorch, {MADE}" not in {side for _, side in told}
    verdicts = {(f.claim.system, f.claim.quantity): f.verdict for f in verdict.findings(found) if f.row}
    assert verdicts == {("DAM-3B", "time"): "holds", ("DAM-3B", "memory"): "undecided"}


def test_the_text_and_the_page_show_every_claim(rows: list[Row]) -> None:
    text = verdict.to_text(full(rows))
    assert text.count("\n| image | time |") == 5 and text.count("\n| video | memory |") == 4
    assert "### Where the time goes: video" in text and "### What only a device can settle" in text
    assert "masks made too" in text and "pytorch" in text
    shown = section.section(full(rows))
    assert len(shown.lines) >= len(claims()) and any("VP-SPHINX-13B" in line for line in shown.lines)
    assert not shown.missing and "was run" in section.section([ROW]).missing


def judged(ours: list[int], theirs: list[int], factor: float) -> str:
    claim = replace(claims()[0], factor=factor)
    told = against(ours, theirs, side=claim.system, goal=factor)
    return verdict.judged(claim, msgspec.structs.replace(ROW, against=told))


def test_verdicts_come_from_every_round() -> None:
    assert judged([10, 10], [14, 15], 1.34) == "holds"
    assert judged([100, 100], [132, 150], 1.34) == "holds"  # 1.32 is 1.34 as far as it could be read
    assert judged([10, 10], [12, 15], 1.34) == "less than published"
    assert judged([10, 10], [9, 8], 1.34) == "does not hold"
    assert judged([10, 10], [9, 15], 1.34) == "undecided"
    assert judged([100, 100], [97, 99], 0.97) == "holds"  # the figure itself has PAM take more
    assert judged([100, 100], [90, 94], 0.97) == "does not hold"
    assert judged([100, 100], [94, 99], 0.97) == "undecided"
    assert verdict.judged(claims()[0], None) == "not measured"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--table"], "give one"),
        (["--only", "image,sound"], "--only 'sound' is unknown"),
        (["--systems", "dam-3b,nothing"], "unknown system 'nothing'"),
        (["--variant", "nothing"], "unknown variant"),
        (["--scheme", "int3"], "unknown scheme"),
    ],
)
def test_words_that_make_no_sense_are_refused(words: list[str], said: str) -> None:
    refused(pam_edge("bench", "claims", *words), 2, said)


def test_bench_runs_where_no_verb_is_named(tmp_path: Path) -> None:
    shown = pam_edge("bench", "--help").out
    assert shown.startswith("Usage: pam-edge bench [OPTIONS] COMMAND") and "claims" in shown
    whole = pam_edge("bench", "run", "--help")
    assert whole.code == 0 and whole.out.startswith("Usage: pam-edge bench run [OPTIONS] {BUNDLE")
    assert pam_edge("bench", "nano", "--help").out == whole.out
    refused(pam_edge("bench", "-r", "2", "nowhere"), 2, "no bundle at nowhere")


def test_claims_is_a_verb_of_bench(tmp_path: Path) -> None:
    assert pam_edge("bench", "claims", "--help").out.startswith("Usage: pam-edge bench claims [OPTIONS]\n")
    out = tmp_path / "rows.jsonl"
    put_rows(out, [ROW])
    shown = pam_edge("bench", "claims", "--table", "--out", out)
    assert shown.code == 0 and shown.out.count("not measured") >= len(claims())
    refused(pam_edge("bench", "claims", "--table", "--out", tmp_path / "none"), 2, "no file of rows")
    refused(pam_edge("bench", "claims", "--out", tmp_path / "no" / "rows"), 3, "there is no folder")
    assert HERE.device == "local" and read_parts("video, image") == ("video", "image")


def test_the_peak_begins_anew(tmp_path: Path) -> None:
    assert not forget_peak(tmp_path / "no" / "file")
    block = np.ones(64 << 20, np.uint8)
    high = memory().get("peak", 0)
    del block
    if not forget_peak():
        pytest.skip("this system does not let a process do that")
    assert memory()["peak"] < high - (32 << 20)


def test_the_document_shows_what_the_committed_rows_say() -> None:
    root = Path(__file__).parents[1]
    text = verdict.to_text(read_rows(root / "benchmarks" / "results" / "claims.jsonl"))
    document = (root / "docs" / "claims.md").read_text(encoding="utf-8")
    command = "pam-edge bench claims --table --out benchmarks/results/claims.jsonl"
    assert text.strip() in document, f"put what `{command}` prints into docs/claims.md"
