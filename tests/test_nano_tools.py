"""nano's trainings: gradients reach memory alone, a run goes on where it stopped, tracks are as they say."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from pam_edge.benchmarks.synthetic import (
    Combo,
    clip,
    named_event,
    named_kind,
    question,
    scene,
    segment_caption,
    told_subject,
)
from pam_edge.benchmarks.synthetic.combos import is_held_out
from pam_edge.benchmarks.synthetic.questions import SUBJECTS
from pam_edge.bundle import builtin
from pam_edge.bundle.config import NANO
from pam_edge.export.checkpoint.checkpoint import load_vision, open_checkpoint
from pam_edge.export.model.language import Language
from pam_edge.export.model.mask_decoder import Decoded
from pam_edge.export.model.perceiver import Perceiver, as_tokens, pixel_shuffle
from pam_edge.export.model.tracker import Remembered, condition
from pam_edge.export.model.vision import VisionTower
from pam_edge.video.clip_caption import FRAMES
from tools.nano import crew, film_features, films, ship, train_memory, train_sam
from tools.nano.data import CELLS, USUAL_SIZE, owners, records, shown_in_cells
from tools.nano.film_helpers import image_tokens
from tools.nano.following import Kept, Trail, conditioned, constants
from tools.nano.lessons import Clips, frame_order
from tools.nano.loop import Learner, run
from tools.nano.prompting import mirror
from tools.nano.resettle import SIZE, resettle
from tools.nano.tracks import CLEAR, draw_tracks, drawn_films
from tools.nano.tree import STRESS, plant
from tools.nano.video_words import BACKWARDS, batch_tokens, renamed, told_backwards
from tools.nano.words import Asked, Questions

CPU = torch.device("cpu")
E, C = NANO.vision.embed_size, NANO.vision.d_model


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two drawn clips."""
    folder = tmp_path_factory.mktemp("films")
    given = argparse.Namespace(out=folder, count=2, workers=1, turning_from=films.NEVER)
    films.draw_all(given)
    return folder


@pytest.fixture(scope="module")
def data(drawn: Path) -> tuple[films.Films, films.Looks]:
    """The clips, and noise in place of what the image encoder would see."""
    rng, shape = np.random.default_rng(0), (2, films.MOST)
    sizes = ((C, E, E), (C // 8, 4 * E, 4 * E), (C // 4, 2 * E, 2 * E))
    noise = (rng.standard_normal((*shape, *size), dtype=np.float32).astype(np.float16) for size in sizes)
    return films.open_films(drawn), films.Looks(*noise)


def test_what_draws_masks_alone_changes_nothing_else() -> None:
    torch.manual_seed(0)
    tower = VisionTower(NANO.vision).eval()
    pictures, prompt = torch.randn(1, 3, 256, 256), (torch.full((1, 1, 2), 100.0), torch.ones(1, 1))
    with torch.no_grad():
        maps, _ = train_sam.look(tower, pictures, exact=True)
        before = train_sam.decode(tower, maps, prompt, None)
        for p in train_sam.drawing(tower).parameters():
            p.mul_(1.5)
        maps, _ = train_sam.look(tower, pictures, exact=True)
        after = train_sam.decode(tower, maps, prompt, None)
    for name in Decoded._fields:
        same = torch.equal(getattr(before, name), getattr(after, name))
        assert same == (name != "masks"), name


def test_later_frames_are_put_back_among_the_others() -> None:
    torch.manual_seed(0)
    perceiver, maps, tokens = Perceiver(NANO), torch.randn(6, C, E, E), torch.randn(6, 2, C)
    with torch.no_grad():
        perceiver.proj.weight.mul_(300)
        perceiver.mm_projector_img[2].bias += 40
        resettle(perceiver, maps, tokens)
        first = perceiver.first_frame(maps, tokens)[:, : E * E // 4]
        later = perceiver.later_frame(maps, tokens)[:, : E * E // 16]
    assert first.square().mean().sqrt() == pytest.approx(SIZE, rel=1e-3)
    assert first.mean((0, 1)).abs().max() < 1e-4
    assert 0.3 * SIZE < later.square().mean().sqrt() < 2 * SIZE


def test_warped_frames_keep_their_order_and_ends() -> None:
    orders = [frame_order(np.random.default_rng(i), turned=i % 2 == 1, warped=True) for i in range(20)]
    for i, order in enumerate(orders):
        forwards = order[::-1] if i % 2 else order
        assert len(order) == FRAMES and (np.diff(forwards) >= 0).all()
        assert (forwards[0], forwards[-1]) == (0, FRAMES - 1)
    assert len({tuple(sorted(order)) for order in orders}) > 5
    assert frame_order(np.random.default_rng(0), turned=False, warped=False).tolist() == list(range(FRAMES))


def test_conditioning_is_the_trackers() -> None:
    torch.manual_seed(0)
    tower = VisionTower(NANO.vision).eval()
    now = 18  # memories and pointers have been forgotten by then
    memory, pointer = torch.randn(now, 2, NANO.vision.mem_dim, E, E), torch.randn(now, 2, C)
    trail = Trail(torch.zeros(2), torch.full((2,), 15.0))
    trail.kept += [Kept(memory[n], pointer[n], n == 0) for n in range(now)]
    kept = {n: Remembered(memory[n], pointer[n]) for n in range(now)}
    embed = torch.randn(2, C, E, E)
    with torch.inference_mode():
        wanted = condition(tower, embed, kept, now, 40)
        given = conditioned(tower, constants(tower, CPU), embed, trail)
        assert float((wanted - given).abs().max()) < 1e-5
        trail.lag += 100  # the prompt's pointer tells how long ago it was
        assert float((conditioned(tower, constants(tower, CPU), embed, trail) - given).abs().max()) > 1e-4


def test_tracks_begin_where_the_object_is_clear(data: tuple[films.Films, films.Looks]) -> None:
    tracks = draw_tracks(np.random.default_rng(1), data, drawn_films(data[0]), shape=(12, 5))
    assert tracks.embed.shape == (5, 12, C, E, E) and tracks.target.shape == (5, 12, 128, 128)
    assert tracks.area[0].min() >= CLEAR
    assert np.allclose(tracks.target.sum((2, 3)) * 4, tracks.area, atol=0.5)
    for b in np.flatnonzero(tracks.labels[:, 0] == 1):  # a click lies on its object
        x, y = tracks.coords[b, 0].round().astype(int)
        assert tracks.target[0, b, y // 2, x // 2] > 0


def test_a_step_moves_memory_alone(data: tuple[films.Films, films.Looks]) -> None:
    torch.manual_seed(0)
    tower, where = VisionTower(NANO.vision), train_memory.Where(C)
    learned = train_memory.learned(tower)
    rng = np.random.default_rng(2)
    tracks = draw_tracks(rng, data, drawn_films(data[0]), shape=(2, 3))
    loss, figures = train_memory.step_loss((tower, where, constants(tower, CPU)), tracks, rng, progress=0.9)
    loss.backward()
    assert np.isfinite(figures["loss"])
    moved = {name for name, p in tower.named_parameters() if p.grad is not None}
    assert {name for name in moved if not name.startswith(train_memory.LEARNED)} == set()
    assert sum(p.numel() for p in learned) > 500_000
    for part in ("memory_attention.layers.0", "memory_encoder.", "maskmem_tpos_enc", "obj_ptr_proj."):
        assert any(name.startswith(part) for name in moved), part


def test_trained_memory_ships_in_the_official_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    tower = VisionTower(NANO.vision)
    both = torch.nn.ModuleDict({"perceiver": Perceiver(NANO), "language": Language(NANO.language)})
    for name, module in (("memory", tower), ("language", both)):
        torch.save({"average": {"values": module.state_dict()}}, tmp_path / f"{name}.pt")
    out = tmp_path / "nano"
    told = {"sam": tmp_path / "memory.pt", "language": tmp_path / "language.pt", "out": out}
    told["tokenizer"] = builtin.WEIGHTS / "tokenizer.json"
    monkeypatch.setattr("sys.argv", ["ship", *(f"--{name}={path}" for name, path in told.items())])
    ship.main()
    shipped = open_checkpoint(str(out), sam2=out / "sam2.1_nano.pt", sam2_config=out / "sam2.1_nano.json")
    read = load_vision(shipped).state_dict()
    for name, value in tower.state_dict().items():
        assert torch.equal(read[name], value.half().float()), name


def test_a_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    member = crew.Member(0, 1, CPU)

    def learner() -> Learner:
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 1)
        return Learner("net", "net", net, torch.nn.Identity(), crew.groups((net,), decay=0.0), 10**9)

    def losses(of: Learner, steps: list[int], until: int) -> None:
        def loss(step: int, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
            steps.append(step)
            if len(steps) == until:
                given.minutes = 1e-9  # the time is up
            value = of.module(torch.ones(2, 3)).pow(2).mean()
            return value, {"loss": float(value.detach())}

        run(of, given, member, loss)

    given = argparse.Namespace(out=tmp_path, peak=1e-2, minutes=1.0)
    first: list[int] = []
    losses(learner(), first, 3)
    given.minutes = 1.0
    second: list[int] = []
    losses(learner(), second, 3)
    assert first == [0, 1, 2] and second[0] == 3
    state = torch.load(tmp_path / "net.pt", weights_only=True)
    assert state["step"] == 6 and state["average"]["steps"] == 6


def test_a_clips_tokens_are_laid_out_as_the_product_lays_them() -> None:
    torch.manual_seed(0)
    perceiver = Perceiver(NANO)
    maps, tokens = torch.randn(2, FRAMES, C, E, E), torch.randn(2, FRAMES, 2, C)
    with torch.inference_mode():
        batch = batch_tokens(perceiver, maps, tokens)
        assert batch.shape[1] == NANO.region_tokens + 1 + (FRAMES - 1) * NANO.frame_tokens
        first = perceiver(maps[:, 0], tokens[:, 0])  # the graph `perceiver`, then what closes a frame
        assert torch.allclose(batch[:, : NANO.region_tokens], first, atol=1e-5)
        at = NANO.region_tokens + 1 + 6 * NANO.frame_tokens
        seventh = perceiver.later_frame(maps[:, 7], tokens[:, 7])  # the graph `perceiver_frame`
        assert torch.allclose(batch[:, at : at + NANO.frame_tokens], seventh, atol=1e-5)
        assert torch.equal(batch[:, NANO.region_tokens], seventh[:, -1])
        whole, later_frames = image_tokens(batch, FRAMES)
        assert torch.equal(whole, batch[:, :64]) and later_frames.shape[1:3] == (FRAMES - 1, 16)
        assert torch.equal(later_frames[:, 6], batch[:, at : at + 16])
        marked = torch.zeros(1, 1, E, E)
        marked[0, 0, 2, 9] = 1  # in row 0 and column 2 of four: the helper heads count down the columns
        assert as_tokens(pixel_shuffle(marked, 4))[0].sum(-1).argmax() == 2 * 4 + 0


def test_words_for_what_happens_weigh_more() -> None:
    questions = Questions(Tokenizer.from_file(str(builtin.WEIGHTS / "tokenizer.json")))
    asked = []
    for lang, text, told in (
        ("en", "After lying still, the cup moves to the left.", " moves to the left"),
        ("zh", "在静止一会儿之后，杯子向左移动。", "向左移动"),
    ):
        ids, stressed = questions.answer(text), questions.happening(text, lang)
        assert len(ids) == len(stressed)
        assert questions.decode([i for i, s in zip(ids, stressed, strict=True) if s]) == told
        asked.append(Asked(questions.video(lang, ""), ids, stressed))
    tree = plant([asked], prefix=4)
    weights = tree.weight[0][tree.target[0] >= 0]
    for q, part in zip(asked, weights.split([len(q.answer) for q in asked]), strict=True):
        rest = part[~torch.tensor(q.stressed)]
        assert torch.allclose(part[torch.tensor(q.stressed)], STRESS * rest[0]) and rest.unique().numel() == 1
    assert not any(questions.happening("The umbrella.", "en"))
    text = "After lying still, the umbrella turns clockwise."
    stressed = questions.happening(text, "en", named=True)
    kept = [n for n, s in zip(questions.answer(text), stressed, strict=True) if s]
    assert questions.tokenizer.decode(kept).strip() == "the umbrella turns clockwise"


def test_a_segment_backwards_is_told_backwards() -> None:
    turned = 0
    for seed in range(2):
        filmed = clip(seed)
        for k, part in enumerate(filmed.segments):
            for lang in ("en", "zh"):
                text = segment_caption(filmed, k, lang)
                if part.event in BACKWARDS:
                    again = told_backwards(text, part.event, lang)
                    turned += again != text
                    assert told_backwards(again, BACKWARDS[part.event], lang) == text
    assert turned > 2


def test_a_segment_of_another_object_is_the_worlds_caption_of_it() -> None:
    for seed in range(3):
        filmed = clip(seed)
        other = replace(filmed, target=Combo("scissors", "green", "plain"))
        for k in range(len(filmed.segments)):
            for lang in ("en", "zh"):
                text = segment_caption(filmed, k, lang)
                assert renamed(text, other.target, lang) == segment_caption(other, k, lang) != text


def test_names_are_asked_of_history_alone(drawn: Path, tmp_path: Path) -> None:
    rows = (2, film_features.PARTS + 1)
    for name, of_frame in (("maps", (C, E, E)), ("tokens", (2, C))):
        np.lib.format.open_memmap(
            tmp_path / f"{name}.npy", mode="w+", shape=(*rows, FRAMES, *of_frame), dtype=np.float16
        )
    np.save(tmp_path / "done.npy", films.open_films(drawn).film["frames"][:, None] > FRAMES * np.arange(5))
    questions = Questions(Tokenizer.from_file(str(builtin.WEIGHTS / "tokenizer.json")))
    clips = Clips(tmp_path, drawn, questions)
    rng, kinds = np.random.default_rng(0), set()
    for asked in clips.names(rng, 20):
        for lang, one in zip(("en", "zh"), asked, strict=True):
            before, told = (questions.decode(ids) for ids in (one.ids_after, one.answer))
            kind = named_kind(told_subject(told, lang), lang)
            history = re.split(": |：", before.split("\n")[-3])[-1]
            assert kind is not None and named_kind(told_subject(history, lang), lang) == kind
            assert named_event(told, lang) is None
            kinds.add(kind)
    assert len(kinds) > 5
    others = [clips.other_name(rng, film) for film in (0, 1) for _ in range(200)]
    assert not any(is_held_out(other) for other in others) and len({other.kind for other in others}) > 20


def test_clips_that_turn_are_told_without_drawing_them() -> None:
    seeds = (1, 3, 10)  # the last leaves and returns
    told = [films.turns(seed) for seed in seeds]
    assert told == [any(p.event.startswith("turn") for p in clip(seed).segments) for seed in seeds]
    assert told == [False, True, False]


def test_a_regions_truth_is_the_scenes() -> None:
    drawn = scene(3)
    rows, owner = records(drawn), owners(drawn)
    for k, (row, obj) in enumerate(zip(rows, drawn.objects, strict=True), start=1):
        x, y, doublings, turn = row["pose"]
        assert (x * drawn.width, y * drawn.height) == pytest.approx((obj.pose.x, obj.pose.y), rel=1e-5)
        assert turn * 45 == pytest.approx(obj.pose.angle, rel=1e-5)
        unit = math.sqrt(drawn.width * drawn.height) / 256
        assert USUAL_SIZE * unit * 2**doublings == pytest.approx(obj.pose.size, rel=1e-5)
        shown = shown_in_cells(owner, k)
        assert shown.shape == (CELLS, CELLS)
        assert shown.sum() * (owner.size / CELLS**2) == pytest.approx((owner == k).sum())
        assert shown[int(y * CELLS), int(x * CELLS)] > 0 or obj.visible < 0.9
        turned = rows.copy()
        mirror(turned)
        assert turned["pose"][k - 1].tolist() == pytest.approx([1 - x, y, doublings, -turn])


def test_questions_of_ones_own_have_one_right_answer() -> None:
    obj = Combo("umbrella", "red", "striped")
    for subject in SUBJECTS:
        answers = {question(subject, obj, "en", wording=n).answer for n in range(3)}
        assert len(answers) == 1, subject
    assert question("is it", obj, "en", wording=0).answer == "Yes."
    no = {question("is it", obj, "zh", wording=0, other=n).answer for n in range(10, 20)}
    assert no == {"是的。", "不是，是红色的。"}
