"""The whole job from an image file: our own bundle of the golden checkpoint answers as the original did,
token by token, in a process that never sees torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from golden.reference import ASKED, PROMPTS, TASKS, differs

import pam_edge
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.pam import Pam
from pam_edge.video.clip_caption import Clip
from pam_edge.video.tracker import Tracker

if TYPE_CHECKING:
    from golden.seeded import GoldenFolder

pytestmark = pytest.mark.slow
FRAME = Path(__file__).parent / "golden" / "frames" / "00000.png"
Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def folder(golden_folder: GoldenFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pam_edge.export.driver.build import build, plan

    settled = plan(
        str(golden_folder.weights),
        target="cpu",
        sam2=golden_folder.sam2,
        sam2_config=golden_folder.sam2_config,
    )
    return build(settled, tmp_path_factory.mktemp("bundle") / "golden").folder


@pytest.fixture(scope="module")
def pam(folder: Path) -> Pam:
    return pam_edge.load(folder)


@pytest.mark.parametrize("case", PROMPTS)
def test_masks_and_words_are_the_originals(pam: Pam, golden: Arrays, case: str) -> None:
    region = pam.segment(pam.look(FRAME), PROMPTS[case])
    assert differs(f"{case}/pred_masks", region.low_res[None, None], 1e-3) == []
    assert abs(region.object_score - golden[f"{case}/object_score_logits"].item()) < 1e-4
    full = golden[f"{case}/mask_logits"][0, 0].astype(np.float32)
    clear = np.abs(full) > 1e-2
    assert clear.mean() > 0.95 and np.array_equal(region.mask[clear], full[clear] > 0)
    stream = pam.describe(region, TASKS[case], max_tokens=12)
    assert "".join(p.text for p in stream if p.index == 0) == stream.answers[0].text
    for answer in stream.answers:
        assert list(answer.token_ids) == golden[f"{case}/{answer.task}/greedy_ids"].tolist()


def test_everything_was_computed_once(folder: Path) -> None:
    pam = pam_edge.load(folder)
    for case, task in ASKED:  # task by task, as someone clicking around would
        region = pam.segment(pam.look(FRAME), PROMPTS[case])
        for _ in pam.describe(region, [task], max_tokens=2):
            pass
    assert pam.cache == {
        "image_hits": 3,
        "image_misses": 1,
        "prefix_hits": 1,  # the box was asked twice
        "prefix_misses": 3,
        "region_tokens_computed": 3,
    }


def test_neighbours_and_order_change_no_answer(pam: Pam) -> None:
    region = pam.segment(pam.look(FRAME), PROMPTS["click"])

    def ask(*tasks: str) -> dict[str, tuple[int, ...]]:
        stream = pam.describe(region, tasks, max_tokens=8)
        for _ in stream:
            pass
        return {a.task: a.token_ids for a in stream.answers}

    together = ask("recognize", "explain", "brief", "detailed")
    assert together == ask("detailed", "brief", "explain", "recognize")
    assert {task: ask(task)[task] for task in together} == together


def test_masks_from_elsewhere_and_refinement_run(pam: Pam) -> None:
    seen = pam.look(FRAME)
    first = pam.segment(seen, PROMPTS["click"])
    mask = np.zeros(seen.size, bool)
    mask[70:150, 60:140] = True
    by_mask = pam.segment(seen, Prompt(mask=mask))
    both = pam.segment(seen, Prompt(mask=mask, points=((100, 110),)))
    refined = pam.segment(seen, first.prompt.also((30, 30, 0)), refine=first)
    regions = (first, by_mask, both, refined)
    assert all(np.isfinite(r.low_res).all() for r in regions)
    assert len({r.low_res.tobytes() for r in regions}) == len({r.key for r in regions}) == 4


def test_the_golden_clip_s_first_frames_are_followed_as_the_original_did(pam: Pam, golden: Arrays) -> None:
    """The whole clip and its caption are in `make parity`."""
    tracker, clip = Tracker(pam, length=20), Clip(pam, length=20)
    for n in range(3):
        frame = tracker.step(FRAME.with_name(f"{n:05}.png"), {1: PROMPTS["box"]} if n == 0 else None)
        (found,) = frame.objects
        assert abs(found.object_score - golden["video/scores"][n]) < 1e-4
        clip.add(found)
    first, second, *_, third = clip.tokens()
    tokens = np.concatenate([first, second, third])
    assert differs("video/region_tokens", tokens[:1043], 1e-4, part=slice(1043)) == []
    assert differs("video/region_tokens", tokens, 5e-4, part=slice(1043 + 2 * 275)) == []


def test_no_torch_on_the_way(folder: Path, golden: Arrays) -> None:
    code = f"""
import json, sys, pam_edge
from pam_edge.image.preprocess import Prompt
pam = pam_edge.load({str(folder)!r})
region, answers = pam.ask({str(FRAME)!r}, Prompt(box=(60, 70, 140, 150)), ["recognize"], max_tokens=12)
heavy = [m for m in ("torch", "onnx", "onnxscript", "transformers", "safetensors") if m in sys.modules]
print(json.dumps([heavy, answers[0].token_ids]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    heavy, ids = json.loads(done.stdout)
    assert heavy == [] and ids == golden["box/recognize/greedy_ids"].tolist()
