"""The tracker and its memory, over a fake model that sees white squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_video import scene, video_pam
from fakes import fake_pam

from pam_edge.bundle.config import NANO
from pam_edge.core.errors import UsageError
from pam_edge.image.preprocess import Prompt
from pam_edge.video.memory_bank import PROMPTED, Memory, Slot, attention_feeds, from_bfloat16, to_bfloat16
from pam_edge.video.tracker import Tracked, Tracker

CONFIG = NANO.vision
E = CONFIG.embed_size


def place(found: Tracked) -> tuple[int, int] | None:
    return None if found.box is None else (sum(found.box[::2]) // 2, sum(found.box[1::2]) // 2)


@pytest.mark.parametrize("slots", [("memories", "pointers"), (7, 16), (5, 2)], ids=str)
def test_a_square_is_followed_lost_and_found_again(
    tmp_path: Path, slots: tuple[int | str, int | str]
) -> None:
    pam, log = video_pam(tmp_path, slots=slots)
    tracker = Tracker(pam)
    path = [(12 + 3 * n, 20) for n in range(12)]
    hidden = {5, 6, 7}
    for n, at in enumerate(path):
        prompts = {1: Prompt(points=((12, 20, 1),))} if n == 0 else None
        frame = tracker.step(scene(*([] if n in hidden else [at])), prompts)
        (found,) = frame.objects
        assert frame.index == found.frame == n
        if n in hidden:
            assert not found.visible and found.object_score < 0 and not found.mask.any()
        else:
            assert place(found) == at and found.prompted == (n == 0)
    assert log.graphs.count("image_encoder") + pam.cache["image_hits"] == len(path)
    given = {f["memory"].shape[1] for f in log.feeds if "memory" in f}
    assert given == {slots[0]} if isinstance(slots[0], int) else len(given) > 1


def test_objects_share_one_look_at_each_frame(tmp_path: Path) -> None:
    pam, log = video_pam(tmp_path)
    tracker = Tracker(pam)
    tracker.step(scene((10, 10), (50, 50)), {2: Prompt(box=(46, 46, 54, 54)), 1: Prompt(box=(6, 6, 14, 14))})
    frame = tracker.step(scene((12, 10), (47, 50)))
    assert [found.object for found in frame.objects] == [1, 2] == list(tracker.objects)
    assert [place(found) for found in frame.objects] == [(12, 10), (47, 50)]
    assert log.graphs.count("image_encoder") == 2
    assert log.graphs.count("memory_attention") == 2
    assert log.graphs.count("mask_decoder") == log.graphs.count("memory_encoder") == 4


def test_a_later_frame_can_be_prompted_and_corrected(tmp_path: Path) -> None:
    pam, log = video_pam(tmp_path)
    tracker = Tracker(pam)
    tracker.step(scene((10, 10), (50, 50)), {1: Prompt(box=(6, 6, 14, 14))})
    late = tracker.step(scene((10, 10), (50, 50)), {2: Prompt(points=((50, 50, 1),))})
    assert [place(found) for found in late.objects] == [(10, 10), (50, 50)]
    runs = len(log.graphs)
    right = tracker.correct({1: Prompt(points=((50, 50, 1),))})
    assert [(found.object, place(found)) for found in right.objects] == [(1, (50, 50))]
    assert log.graphs[runs:] == ["mask_decoder", "memory_encoder"]  # nothing is encoded or attended to again
    mask = log.feeds[runs]
    assert mask["has_mask"] == 1 and mask["no_memory"] == 0, "clicks refine the mask in the light of memory"
    after = tracker.step(scene((10, 10), (52, 50)))
    assert place(after.objects[0]) == (52, 50), "the correction is what is followed"
    anew = tracker.step(scene((10, 10), (52, 50)), {1: Prompt(box=(6, 6, 14, 14))})
    assert place(anew.objects[0]) == (10, 10)


def test_backwards_sees_the_frames_after(tmp_path: Path) -> None:
    pam, log = video_pam(tmp_path)
    tracker = Tracker(pam)
    frames = [scene((12 + 2 * n, 20)) for n in range(12)]
    tracker.step(frames[6], {1: Prompt(points=((24, 20, 1),))}, at=6)
    forward = [place(tracker.step(frames[n], at=n).objects[0]) for n in range(7, 12)]
    assert forward == [(12 + 2 * n, 20) for n in range(7, 12)]
    backward = [place(tracker.step(frames[n], at=n).objects[0]) for n in range(5, -1, -1)]
    assert backward == [(12 + 2 * n, 20) for n in range(5, -1, -1)]
    ages = [f["memory_age"][0].tolist() for f in log.feeds if "memory_age" in f]
    # After turning, those that lie ahead now count as well, as far as they are still kept.
    assert ages[0] == [0] and ages[-1][0] == 0 and set(ages[-1][1:]) == {1, 2, 3, 4, 5}


def test_only_what_is_needed_is_kept(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path)
    tracker = Tracker(pam)
    tracker.step(scene((20, 20)), {1: Prompt(points=((20, 20, 1),))})
    held = []
    for n in range(60):
        tracker.step(scene((20, 20), (40 + n % 2, 50)))
        held.append(tracker.remembered)
    assert max(held) == CONFIG.max_obj_ptrs  # the prompted frame, and one less than it of the others
    tracker.forget(1)
    assert tracker.remembered == 0 and tracker.objects == ()


def remembered(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((1, 2, 2, 2), n, np.float32), np.full((1, 4), n, np.float32)


def test_a_frame_sees_the_prompted_ones_and_the_latest() -> None:
    memory = Memory(CONFIG)
    for n in range(30):
        memory.keep(n, *remembered(n), prompted=n == 0)
    memories, pointers = memory.seen_from(30)
    assert [(s.value[0, 0, 0], s.since) for s in memories] == [
        (0, 0),
        *((30 - age, age) for age in range(6, 0, -1)),
    ]
    assert [s.value[0] for s in pointers] == [0, *range(15, 30)]
    assert pointers[0].since == 30 / 15 and pointers[-1].since == 1 / 15


def test_a_short_video_measures_time_by_its_length() -> None:
    memory = Memory(CONFIG, length=4)
    for n in range(3):
        memory.keep(n, *remembered(n), prompted=n == 0)
    _, pointers = memory.seen_from(3)
    assert [s.since for s in pointers] == [1, 2 / 3, 1 / 3]


def test_many_prompts_are_bounded_and_the_first_stays() -> None:
    memory = Memory(CONFIG)
    for n in range(20):
        memory.keep(n, *remembered(n), prompted=True)
    memories, _ = memory.seen_from(20)
    assert [s.value[0, 0, 0] for s in memories] == [0, *range(20 - PROMPTED + 1, 20)]


def test_a_corrected_frame_stays_prompted_and_does_not_see_itself() -> None:
    memory = Memory(CONFIG)
    memory.keep(0, *remembered(0), prompted=True)
    memory.keep(0, *remembered(7), prompted=False)
    assert memory.seen_from(0) == ([], [])
    assert memory.seen_from(1)[0][0].value[0, 0, 0] == 7


def test_a_prompt_that_lies_ahead_still_says_what_is_meant() -> None:
    memory = Memory(CONFIG)
    memory.keep(9, *remembered(9), prompted=True)
    memories, pointers = memory.seen_from(5)
    assert [s.since for s in memories] == [0] and [s.value[0] for s in pointers] == [9]


@pytest.mark.parametrize("slots", [(None, None), (7, 16), (4, 5), (1, 1)])
def test_slots_are_filled_and_padded(slots: tuple[int | None, int | None]) -> None:
    memories = [Slot(np.full((2, 3, 3), i, np.float32), i) for i in range(5)]
    pointers = [Slot(np.full(4, i, np.float32), i) for i in range(6)]
    feeds = attention_feeds(memories, pointers, slots=slots)
    for names, given, count in (
        (("memory", "memory_age", "memory_valid"), memories, slots[0] or 5),
        (("pointers", "pointer_time", "pointer_valid"), pointers, slots[1] or 6),
    ):
        value, since, valid = (feeds[name][0] for name in names)
        used = min(count, len(given))
        assert len(value) == len(since) == len(valid) == count
        assert valid.tolist() == [1] * used + [0] * (count - used)
        wanted = list(range(len(given)))
        wanted = wanted if used == len(given) else [0, *wanted[len(given) - used + 1 :]]
        assert since[:used].tolist() == wanted == [v.flat[0] for v in value[:used]]
        assert not value[used:].any()


def test_memories_are_rounded_as_bfloat16() -> None:
    import torch

    x = np.random.default_rng(0).standard_normal((64, 64), dtype=np.float32) * 7
    x[0, :4] = (1 + 2**-8, 1 + 3 * 2**-8, 0, -1 - 2**-8)  # ties go to even
    np.testing.assert_array_equal(
        from_bfloat16(to_bfloat16(x)), torch.from_numpy(x).bfloat16().float().numpy()
    )


def test_a_bundle_for_pictures_alone_says_so(tmp_path: Path) -> None:
    pam, _ = fake_pam(tmp_path)
    with pytest.raises(UsageError, match=r"for pictures alone: it has no memory_encoder.*export the bundle"):
        Tracker(pam)


def test_prompts_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    pam, log = video_pam(tmp_path)
    tracker = Tracker(pam)
    with pytest.raises(UsageError, match="no frame yet"):
        tracker.correct({1: Prompt(points=((1, 1, 1),))})
    tracker.step(scene((20, 20)), {1: Prompt(points=((20, 20, 1),))})
    runs = len(log.graphs)
    with pytest.raises(UsageError, match="outside the picture"):
        tracker.step(scene((20, 20)), {2: Prompt(points=((70, 1, 1),))})
    assert len(log.graphs) == runs and tracker.objects == (1,)
    assert tracker.step(scene((20, 22))).index == 1
