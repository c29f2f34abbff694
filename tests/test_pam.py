"""One look, many answers: what is computed once, what streams when, and what a bundle must hold."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from fakes import C, E, R, S, fake_bundle, fake_pam, spelled
from PIL import Image

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import NANO
from pam_edge.core.errors import IntegrityError, UsageError, WontFitError
from pam_edge.image import coco_rle
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.generation import step_bytes
from pam_edge.pipeline.pam import Pam
from pam_edge.pipeline.results import Piece
from pam_edge.render.json_report import numbers, peak_mb, report
from pam_edge.runtimes.common.open_graphs import Engine
from pam_edge.text.decoding import Sampling
from pam_edge.text.tokenization import PAM_PROMPTS, Question

PHOTO = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
OTHER = PHOTO[::-1].copy()
CLICK = Prompt(points=((40, 30),))


def answers_by_task(region: float, after: tuple[int, ...]) -> list[int]:
    """A different answer for each task: its own question in capitals, shortened; Chinese for Chinese."""
    text = bytes_of(after).split("\n")[1]
    return spelled(text.upper()[:12] if text.isascii() else text[:4])


def bytes_of(ids: tuple[int, ...]) -> str:
    from fakes import byte_tokenizer

    from pam_edge.text.tokenization import Texts

    return Texts(byte_tokenizer(), PAM_PROMPTS).decode(ids)


def drain(pieces: object) -> list[Piece]:
    return list(pieces)


# --- look ------------------------------------------------------------------------------------------


def test_a_picture_is_encoded_once_however_often_and_in_whatever_form(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path)
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    first = pam.look(PHOTO)
    for again in (PHOTO.copy(), Image.fromarray(PHOTO), tmp_path / "a.png"):
        seen = pam.look(again)
        assert seen.key == first.key and seen.timing_ms["encode"] == 0
        assert seen.features["image_embed"] is first.features["image_embed"]
    assert log.graphs == ["image_encoder"]
    assert first.size == (60, 80) and first.timing_ms["encode"] > 0
    assert pam.look(OTHER).key != first.key
    assert (pam.cache["image_hits"], pam.cache["image_misses"]) == (3, 2)


def test_one_spot_makes_another_picture(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path)
    changed = PHOTO.copy()
    changed[50:54, 70:74] = 255 - changed[50:54, 70:74]
    assert pam.look(changed).key != pam.look(PHOTO).key


def test_the_image_cache_is_bounded_and_forgets_the_oldest(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path, images=2)
    pictures = [np.full((8, 8, 3), v, np.uint8) for v in (0, 90, 180)]
    for i in (0, 1, 0, 2, 0, 1):  # 1 is forgotten when 2 comes, 2 when 1 comes back
        pam.look(pictures[i])
    assert len(log.graphs) == 4 and pam.cache["image_hits"] == 2
    with pytest.raises(UsageError, match="at least 1"):
        fake_pam(tmp_path, images=0)


def test_a_picture_that_fails_leaves_the_cache_as_it_was(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path)
    with pytest.raises(IntegrityError):
        pam.look(b"no picture")
    assert log.graphs == [] and pam.cache["image_misses"] == 0


# --- segment ---------------------------------------------------------------------------------------


def test_a_click_costs_one_mask_decoder_and_no_text(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path)
    seen = pam.look(PHOTO)
    region = pam.segment(seen, CLICK)
    assert log.graphs == ["image_encoder", "mask_decoder"] and log.opened == 0
    assert region.mask.shape == (60, 80) and region.mask.dtype == np.bool_ and region.size == (60, 80)
    assert region.mask[30, 40] and not region.mask[0, 0]
    x0, y0, x1, y1 = region.box
    assert region.mask[y0:y1, x0:x1].sum() == region.mask.sum() > 0
    assert (region.score, region.object_score) == (0.75, 3.5)
    assert region.low_res.shape == (4 * E, 4 * E)
    assert set(region.timing_ms) == {"preprocess", "load", "encode", "mask"}
    feeds = log.feeds[-1]
    assert feeds["no_memory"].tolist() == [1] and feeds["image_embed"].shape == (1, C, E, E)
    assert feeds["point_coords"].tolist() == [[[40 / 80 * S, 30 / 60 * S]]]


def test_fixed_slots_come_from_the_bundle(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path, slots=4)
    pam.segment(pam.look(PHOTO), CLICK)
    assert log.feeds[-1]["point_labels"].tolist() == [[1, -2, -2, -2]]
    with pytest.raises(UsageError, match="this bundle has 4"):
        pam.segment(pam.look(PHOTO), Prompt(points=((1, 1),) * 5))


def test_refinement_starts_from_the_earlier_mask(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path)
    seen = pam.look(PHOTO)
    region = pam.segment(seen, CLICK)
    refined = pam.segment(seen, region.prompt.also((10, 10, 0)), refine=region)
    feeds = log.feeds[-1]
    assert feeds["has_mask"].tolist() == [1]
    assert np.array_equal(feeds["mask_prompt"][0, 0], np.clip(region.low_res, -32, 32))
    assert feeds["point_labels"].tolist() == [[1, 0]] and refined.key != region.key
    for photo in (PHOTO[:30], OTHER):  # of another size, and of the same
        other = pam.segment(pam.look(photo), Prompt(points=((1, 1),)))
        with pytest.raises(UsageError, match="another picture"):
            pam.segment(seen, CLICK, refine=other)


def test_a_mask_from_elsewhere_is_a_prompt(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 20:60] = True
    region = pam.segment(pam.look(PHOTO), Prompt(mask=mask))
    assert log.feeds[-1]["point_labels"].tolist() == [[-1]]
    assert np.array_equal(region.mask, mask)  # the fake hands a lone mask prompt back


def test_a_region_made_by_a_mask_is_refined_from_its_logits(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path)
    seen, mask = pam.look(PHOTO), np.zeros((60, 80), bool)
    mask[20:40, 20:60] = True
    region = pam.segment(seen, Prompt(mask=mask))
    region = pam.segment(seen, region.prompt.also((30, 30)))
    pam.segment(seen, region.prompt.also((10, 10, 0)), refine=region)
    feeds = log.feeds[-1]
    assert feeds["has_mask"].tolist() == [1] and feeds["point_labels"].tolist() == [[1, 0]]
    assert np.array_equal(feeds["mask_prompt"][0, 0], np.clip(region.low_res, -32, 32))
    for others, refined in ((~mask, region), (mask, pam.segment(seen, CLICK))):
        with pytest.raises(UsageError, match="not both"):
            pam.segment(seen, Prompt(mask=others, points=((9, 9),)), refine=refined)


OUTSIDE = [
    (Prompt(points=((80, 5),)), "outside the picture of 80x60"),
    (Prompt(box=(1, 1, 9, 61)), "outside the picture of 80x60"),
    (Prompt(mask=np.ones((61, 80), bool)), "mask is 80x61"),
    (Prompt(points=((1, 1),) * 5), "this bundle has 4"),
]


@pytest.mark.parametrize(("prompt", "says"), OUTSIDE)
def test_a_prompt_that_does_not_fit_is_refused_before_the_look(
    tmp_path: Path, prompt: Prompt, says: str
) -> None:
    bundle = fake_bundle(tmp_path, slots=4)
    engine = Engine(session=lambda graph: pytest.fail("opened"), decoder=lambda: pytest.fail("opened"))
    pam = Pam(bundle, engine)
    with pytest.raises(UsageError, match=says):
        pam.ask(PHOTO, prompt, ["brief"])
    with pytest.raises(UsageError, match=says):
        pam.check_prompt(prompt, (60, 80))
    pam.check_prompt(CLICK, (60, 80))
    pam, _ = fake_pam(tmp_path, slots=4)
    with pytest.raises(UsageError, match=says):
        pam.segment(pam.look(PHOTO), prompt)


# --- describe --------------------------------------------------------------------------------------


def test_many_tasks_one_prefix_one_batch(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path, answers_by_task)
    region = pam.segment(pam.look(PHOTO), CLICK)
    stream = pam.describe(region, ["recognize", "explain", "brief", "detailed"])
    assert log.opened == 0 and "perceiver" not in log.graphs  # nothing before the first piece is asked for
    pieces = drain(stream)
    assert log.graphs.count("perceiver") == 1 and log.opened == 1
    before = len(pam.texts.ids_before)
    assert log.prefills[0] == (before + R,)
    assert log.prefills[1] == tuple(
        len(pam.texts.ids_after(t)) for t in ("recognize", "explain", "brief", "detailed")
    )
    assert len(log.prefills) == 2 and log.steps == [4] * 12  # 12 letters each, then the stop
    assert [a.text for a in stream.answers] == [
        "CLASSIFY THI",
        "CLASSIFY THI",
        "PROVIDE A CO",
        "PROVIDE A CO",
    ]
    for i, answer in enumerate(stream.answers):
        own = [p for p in pieces if p.index == i]
        assert "".join(p.text for p in own) == answer.text and own[-1].answer == answer
        assert all(p.answer is None for p in own[:-1])
        assert answer.finish_reason == "stop" and list(answer.token_ids) == spelled(answer.text)


def test_later_calls_reuse_the_prefix_and_equal_regions_share_it(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path, answers_by_task)
    region = pam.segment(pam.look(PHOTO), CLICK)
    drain(pam.describe(region, ["recognize"]))
    drain(pam.describe(region, ["brief", Question("what colour?")]))
    again = pam.segment(pam.look(PHOTO), Prompt(points=((40, 30),)))
    stream = pam.describe(again, ["recognize"])
    drain(stream)
    assert log.graphs.count("perceiver") == 1
    assert [p for p in log.prefills if p[0] > R] == [(len(pam.texts.ids_before) + R,)]
    assert pam.cache == {
        "image_hits": 1,
        "image_misses": 1,
        "prefix_hits": 2,
        "prefix_misses": 1,
        "region_tokens_computed": 1,
    }
    assert stream.timing_ms["perceiver"] == 0
    other = pam.segment(pam.look(PHOTO), Prompt(points=((41, 30),)))
    drain(pam.describe(other, ["recognize"]))
    assert pam.cache["prefix_misses"] == 2


def test_prefixes_are_bounded(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path, prefixes=1)
    seen = pam.look(PHOTO)
    a, b = pam.segment(seen, CLICK), pam.segment(seen, Prompt(points=((1, 1),)))
    for region in (a, b, a):
        drain(pam.describe(region, ["recognize"]))
    assert log.graphs.count("perceiver") == 3


def test_the_prefix_stays_clean_after_answers(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path, answers_by_task, noise=2.0)
    region = pam.segment(pam.look(PHOTO), CLICK)
    texts = []
    for _ in range(3):
        stream = pam.describe(region, ["recognize"])
        drain(stream)
        texts.append(stream.answers[0])
    assert texts[0] == texts[1] == texts[2]


def test_what_is_said_depends_on_the_region(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path, lambda region, after: spelled(f"{region:.0f}"))
    seen = pam.look(PHOTO)
    told = set()
    for x in (10, 40, 70):
        stream = pam.describe(pam.segment(seen, Prompt(points=((x, 30),))), ["recognize"])
        drain(stream)
        told.add(stream.answers[0].text)
    assert len(told) == 3


def test_text_streams_while_it_is_made(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path, lambda region, after: spelled("abcdef"))
    stream = pam.describe(pam.segment(pam.look(PHOTO), CLICK), ["recognize"])
    assert next(stream).text == "a" and log.steps == []
    assert next(stream).text == "b" and log.steps == [1]
    stream.close()
    assert drain(stream) == [] and log.steps == [1] and stream.answers == ()


def test_chinese_streams_in_whole_characters(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path, answers_by_task)
    stream = pam.describe(pam.segment(pam.look(PHOTO), CLICK), ["recognize"], lang="zh")
    pieces = drain(stream)
    assert stream.answers[0].text == "对该目标" and stream.answers[0].lang == "zh"
    assert [p.text for p in pieces] == ["对", "该", "目", "标", ""]  # the last brings the answer


def test_max_tokens_and_the_end_of_the_cache_are_length(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path, lambda region, after: spelled("x" * 500))
    region = pam.segment(pam.look(PHOTO), CLICK)
    stream = pam.describe(region, ["recognize"], max_tokens=5)
    drain(stream)
    assert (stream.answers[0].text, stream.answers[0].finish_reason) == ("xxxxx", "length")
    used = len(pam.texts.ids_before) + R + len(pam.texts.ids_after("recognize"))
    pam, log = fake_pam(tmp_path, lambda region, after: spelled("x" * 500), max_length=used + 3)
    stream = pam.describe(pam.segment(pam.look(PHOTO), CLICK), ["recognize"])
    drain(stream)
    assert stream.answers[0].text == "xxxx" and stream.answers[0].finish_reason == "length"
    assert log.steps == [1, 1, 1]  # the cache is exactly full
    stream = pam.describe(pam.segment(pam.look(PHOTO), CLICK), [Question("why? " * 50)])
    with pytest.raises(WontFitError, match="shorten"):
        drain(stream)


def test_a_character_cut_by_the_limit(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path, lambda region, after: spelled("伞伞"))
    stream = pam.describe(pam.segment(pam.look(PHOTO), CLICK), ["recognize"], max_tokens=4)
    drain(stream)
    assert stream.answers[0].text == "伞\ufffd" and len(stream.answers[0].token_ids) == 4


def test_more_tasks_than_a_batch_holds(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path, answers_by_task)
    tasks = [Question(f"number {i}") for i in range(11)]
    stream = pam.describe(pam.segment(pam.look(PHOTO), CLICK), tasks)
    drain(stream)
    assert [a.text for a in stream.answers] == [f"NUMBER {i}" for i in range(11)]
    assert [len(p) for p in log.prefills] == [1, 8, 3] and log.graphs.count("perceiver") == 1


def test_sampled_text_does_not_depend_on_neighbours_or_order(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path, noise=6.0)
    region = pam.segment(pam.look(PHOTO), CLICK)

    def ask(*tasks: str, seed: int = 3) -> dict[str, tuple[int, ...]]:
        stream = pam.describe(region, tasks, sampling=Sampling(temperature=6.0, seed=seed), max_tokens=12)
        drain(stream)
        return {a.task: a.token_ids for a in stream.answers}

    alone, among = ask("brief"), ask("recognize", "explain", "brief", "detailed")
    assert alone["brief"] == among["brief"] == ask("detailed", "brief")["brief"]
    assert ask("brief", seed=4)["brief"] != alone["brief"]
    assert len(set(among.values())) == 4


@pytest.mark.parametrize(
    ("tasks", "more", "says"),
    [
        ([], {}, "at least one"),
        ("recognize", {}, "list"),
        (["shout"], {}, "unknown task 'shout'"),
        (["video"], {}, "videos only; known: recognize, explain, brief, detailed, or"),
        (["recognize"], {"lang": "xx"}, "language"),
        (["recognize"], {"max_tokens": 0}, "at least 1"),
    ],
)
def test_wrong_requests_fail_at_once(
    tmp_path: Path, tasks: object, more: dict[str, object], says: str
) -> None:
    pam, log = fake_pam(tmp_path)
    region = pam.segment(pam.look(PHOTO), CLICK)
    with pytest.raises(UsageError, match=says):
        pam.describe(region, tasks, **more)
    assert log.opened == 0


def test_ask_does_it_all(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path, answers_by_task)
    region, answers = pam.ask(PHOTO, CLICK, ["recognize", "brief"])
    assert region.mask.any() and [a.task for a in answers] == ["recognize", "brief"]


# --- numbers and JSON ------------------------------------------------------------------------------


def test_times_and_speeds_are_measured(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path, answers_by_task)
    region = pam.segment(pam.look(PHOTO), CLICK)
    stream = pam.describe(region, ["recognize", "brief"])
    drain(stream)
    timing, speed = stream.timing_ms, stream.speed
    assert all(timing[name] > 0 for name in ("perceiver", "prefill", "first_token", "decode"))
    assert timing["first_token"] >= timing["perceiver"] + timing["prefill"]
    assert speed["prefill_tokens"] == sum(sum(p) for p in log.prefills)
    assert speed["decode_tokens"] == sum(log.steps) == 24
    seconds = timing["decode"] / 1e3
    assert speed["decode_tokens_per_s"] == pytest.approx(24 / seconds)
    read = 12 * step_bytes(pam.bundle.manifest.variant.language)
    assert speed["decode_gb_per_s"] == pytest.approx(read / 1e9 / seconds)
    line = numbers({**region.timing_ms, **timing}, speed)
    assert "encode" in line and "GB/s" in line and "tok/s" in line and "peak" in line
    assert peak_mb() > 10


@pytest.mark.parametrize("tied", [True, False])
def test_a_step_reads_every_weight_but_the_embeddings(tied: bool) -> None:
    torch = pytest.importorskip("torch")
    from pam_edge.export.model.language import Language

    config = msgspec.structs.replace(NANO.language, tied=tied)
    with torch.device("meta"):
        weights = dict(Language(config).named_parameters())
    if not tied:
        del weights["embed_tokens.weight"]  # where it is tied, it is the head
    assert step_bytes(config) == 4 * sum(w.numel() for w in weights.values())


def test_opening_graphs_is_in_no_other_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    for module in ("pipeline.pam", "pipeline.generation", "core.timing"):
        monkeypatch.setattr(f"pam_edge.{module}.time", clock)
    pam, _ = fake_pam(tmp_path)
    engine = pam._graphs._engine

    def slowly(seconds: float, opened: object) -> object:
        now[0] += seconds
        return opened

    pam._graphs._engine = Engine(
        lambda graph: slowly(1, engine.session(graph)), lambda: slowly(5, engine.decoder())
    )
    region = pam.segment(pam.look(PHOTO), CLICK)
    assert region.timing_ms == {"preprocess": 0, "load": 2000, "encode": 0, "mask": 0}
    stream = pam.describe(region, ["recognize"])
    drain(stream)
    assert stream.timing_ms == {"load": 6000, "perceiver": 0, "first_token": 0, "prefill": 0, "decode": 0}
    made = report(region, stream.answers, timing_ms=stream.timing_ms, cache=pam.cache)
    assert made["timing_ms"]["load"] == 8000
    assert "load 2000 ms" in numbers(region.timing_ms, {})
    again = pam.segment(pam.look(OTHER), CLICK)
    stream = pam.describe(again, ["recognize"])
    drain(stream)
    assert again.timing_ms["load"] == stream.timing_ms["load"] == 0
    assert "load" not in numbers(again.timing_ms, {})


def test_time_a_caller_takes_is_not_the_decoders(tmp_path: Path) -> None:
    import time

    pam, _ = fake_pam(tmp_path, lambda region, after: spelled("abcdefgh"))
    stream = pam.describe(pam.segment(pam.look(PHOTO), CLICK), ["recognize"])
    for _ in stream:
        time.sleep(0.05)
    assert stream.timing_ms["decode"] < 300  # eight pauses of 50 ms are not in it


def test_a_cached_picture_says_cached(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path)
    pam.look(PHOTO)
    region = pam.segment(pam.look(PHOTO), CLICK)
    assert "encode cached" in numbers(region.timing_ms, {})


def test_report_is_the_promised_json(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path, answers_by_task)
    region = pam.segment(pam.look(PHOTO), CLICK)
    stream = pam.describe(region, ["recognize", "explain"], lang="zh")
    drain(stream)
    made = report(region, stream.answers, timing_ms=stream.timing_ms, cache=pam.cache)
    made = json.loads(json.dumps(made))
    names = ["schema", "size", "mask", "score", "object_score", "answers", "timing_ms", "cache", "peak_mb"]
    assert list(made) == names and made["peak_mb"] == pytest.approx(peak_mb(), rel=0.2)
    assert made["schema"] == 1 and made["size"] == made["mask"]["size"] == [60, 80]
    assert np.array_equal(coco_rle.decode(made["mask"]["counts"], (60, 80)), region.mask)
    assert made["answers"][0] == {
        "task": "recognize",
        "lang": "zh",
        "text": "对该目标",
        "token_ids": spelled("对该目标"),
        "finish_reason": "stop",
    }
    assert {"preprocess", "load", "encode", "mask", "perceiver", "prefill", "first_token", "decode"} == set(
        made["timing_ms"]
    )
    assert made["cache"]["region_tokens_computed"] == 1


# --- the bundle ------------------------------------------------------------------------------------


def test_a_bundle_without_what_pam_needs_is_refused_at_once(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path)
    engine = Engine(session=lambda graph: pytest.fail("opened"), decoder=lambda: pytest.fail("opened"))
    manifest = bundle.manifest
    lacking = msgspec.structs.replace(manifest.graphs[2], outputs=manifest.graphs[0].outputs)
    graphs = (*manifest.graphs[:2], lacking, manifest.graphs[3])
    with pytest.raises(IntegrityError, match="perceiver lacks region_tokens"):
        Pam(Bundle(tmp_path, msgspec.structs.replace(manifest, graphs=graphs)), engine)
    for i, name in enumerate(("image_encoder", "mask_decoder", "perceiver", "decoder")):
        graphs = tuple(g for j, g in enumerate(manifest.graphs) if j != i)
        with pytest.raises((IntegrityError, UsageError), match=name):
            Pam(Bundle(tmp_path, msgspec.structs.replace(manifest, graphs=graphs)), engine)
    Pam(bundle, engine)  # and opening a good one opens no graph


def test_a_tokenizer_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path)
    engine = Engine(session=lambda graph: pytest.fail("opened"), decoder=lambda: pytest.fail("opened"))
    huge = msgspec.structs.replace(bundle.manifest.tokenizer, bytes=(64 << 20) + 1)
    manifest = msgspec.structs.replace(bundle.manifest, tokenizer=huge)
    with pytest.raises(IntegrityError, match="over 64 MiB"):
        Pam(Bundle(tmp_path, manifest), engine)


def test_load_says_what_is_missing(tmp_path: Path) -> None:
    import pam_edge

    with pytest.raises(UsageError, match="no bundle"):
        pam_edge.load(tmp_path / "none")
