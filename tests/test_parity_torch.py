"""Our PyTorch modules against the original's outputs on the golden checkpoint (tests/golden), float32."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import reference, torch_side
from golden.reference import ASKED, FRAME_SIZE, PROMPTS
from golden.torch_side import Model

from pam_edge.bundle.config import NANO
from pam_edge.export.model.mask_decoder import Decoded
from pam_edge.export.model.perceiver import Perceiver
from pam_edge.export.model.prompt_encoder import EMPTY_SLOT
from pam_edge.export.model.vision import NO_OBJECT_LOGIT, Encoded, MaskHead, Segmented, VisionTower
from pam_edge.text.tokenization import PAM_PROMPTS, Texts

if TYPE_CHECKING:
    from pam_edge.export.checkpoint.checkpoint import Checkpoint

LOGITS = 1e-4


@pytest.fixture(scope="module")
def model(golden_model: Model) -> Model:
    return golden_model


@pytest.fixture(scope="module")
def seen(model: Model) -> Encoded:
    return torch_side.look(model)


@pytest.fixture(scope="module")
def regions(model: Model, seen: Encoded) -> dict[str, dict[str, np.ndarray]]:
    return {name: torch_side.region(model, seen, name) for name in PROMPTS}


@pytest.mark.parametrize("name", PROMPTS)
def test_region_equals_the_originals(regions: dict[str, dict[str, np.ndarray]], name: str) -> None:
    assert reference.complaints(name, regions[name]) == []


@pytest.mark.parametrize("name", PROMPTS)
def test_mask_at_frame_size_is_the_low_one_upsampled(
    regions: dict[str, dict[str, np.ndarray]], name: str
) -> None:
    masks = torch.from_numpy(regions[name]["masks"])
    full = F.interpolate(masks, FRAME_SIZE, mode="bilinear", align_corners=False)
    assert reference.differs(f"{name}/mask_logits", full.numpy(), 1e-3) == []


@pytest.mark.parametrize(("name", "task"), ASKED)
def test_answers_equal_the_originals(
    model: Model,
    regions: dict[str, dict[str, np.ndarray]],
    golden: dict[str, np.ndarray],
    name: str,
    task: str,
) -> None:
    tokens = regions[name]["region_tokens"][0]
    logits, chosen = torch_side.answer(model, tokens, f"{name}/{task}")
    assert chosen == golden[f"{name}/{task}/greedy_ids"].tolist()
    assert np.abs(logits[1:] - golden[f"{name}/{task}/step_logits"]).max() <= LOGITS
    assert np.abs(logits[0] - golden[f"{name}/{task}/logits_last"]).max() <= LOGITS


@pytest.mark.parametrize(("name", "task"), [*ASKED, ("video", "caption")])
def test_prompt_text_gives_the_originals_tokens(
    golden_checkpoint: Checkpoint, golden: dict[str, np.ndarray], name: str, task: str
) -> None:
    texts = Texts(golden_checkpoint.tokenizer_json, PAM_PROMPTS)
    assert list(texts.ids_before) == golden[f"{name}/{task}/ids_before"].tolist()
    asked = "video" if task == "caption" else task
    assert list(texts.ids_after(asked, history="")) == golden[f"{name}/{task}/ids_after"].tolist()


def padded(model: Model, seen: Encoded, name: str, slots: int | None, *, junk: float = 0.0) -> Segmented:
    """A golden prompt in `slots` slots, the empty ones placed at `junk`, in the precision of `seen`."""
    arrays = reference.prompt_arrays(name, slots=slots)
    labels = torch.from_numpy(arrays["point_labels"]).to(seen.image_embed.dtype)
    coords = torch.from_numpy(arrays["point_coords"]).to(labels.dtype)
    with torch.inference_mode():
        return model.vision.decode_masks(
            model.vision.without_memory(seen.image_embed),
            (seen.high_res_0, seen.high_res_1),
            coords + junk * (labels == EMPTY_SLOT)[..., None],
            labels,
        )


@pytest.mark.parametrize("slots", [4, 16])
@pytest.mark.parametrize("name", PROMPTS)
def test_empty_slots_have_no_influence(model: Model, seen: Encoded, name: str, slots: int) -> None:
    """k points in N slots are k points: exactly in the mathematics (float64), but for rounding in float32."""
    for ours, theirs in zip(padded(model, seen, name, None), padded(model, seen, name, slots), strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-5
    double = Model(copy.deepcopy(model.vision).double(), model.perceiver, model.language)
    exact = Encoded(*(x.double() for x in seen))
    for ours, theirs in zip(
        padded(double, exact, name, None), padded(double, exact, name, slots), strict=True
    ):
        assert float((ours - theirs).abs().max()) <= 1e-12


def test_what_lies_in_an_empty_slot_is_never_read(model: Model, seen: Encoded) -> None:
    for ours, theirs in zip(
        padded(model, seen, "points", 6), padded(model, seen, "points", 6, junk=700.0), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("logits", "first"),
    [
        ([5.0] * 98 + [0.0] * 2, 0),  # 98 of 100 above +0.05: stable, at the threshold
        ([5.0] * 97 + [0.0] * 3, 2),
        ([-5.0] * 100, 0),  # nothing at all is stable
        ([0.05] * 100, 2),  # not above +delta, but above -delta
        ([-0.05] * 100, 0),
    ],
)
def test_first_mask_token_is_the_single_one_where_its_mask_is_stable(logits: list[float], first: int) -> None:
    head = MaskHead(NANO.vision)
    masks = torch.tensor(logits).reshape(1, 1, 10, 10).expand(1, 4, 10, 10)
    tokens = torch.arange(4.0).reshape(1, 4, 1).expand(1, 4, 8)
    iou = torch.tensor([[0.9, 0.1, 0.8, 0.3]])
    found = head.choose_tokens(Decoded(masks, iou, torch.ones(1, 1), tokens, torch.zeros(1)))
    assert found[0, :, 0].tolist() == [first, 0]


def test_prompts_side_by_side_equal_prompts_alone(model: Model, seen: Encoded) -> None:
    """One image, several prompts of different length in one batch."""
    arrays = [reference.prompt_arrays(name, slots=3) for name in PROMPTS]
    with torch.inference_mode():
        batch = model.vision.decode_masks(
            model.vision.without_memory(seen.image_embed),
            (seen.high_res_0, seen.high_res_1),
            torch.from_numpy(np.concatenate([a["point_coords"] for a in arrays])),
            torch.from_numpy(np.concatenate([a["point_labels"] for a in arrays])),
        )
        tokens = model.perceiver(batch.region_embed, batch.mask_tokens)
    for i, name in enumerate(PROMPTS):
        region = {key: value[i : i + 1].numpy() for key, value in batch._asdict().items()}
        assert reference.complaints(name, region | {"region_tokens": tokens[i : i + 1].numpy()}) == []


def test_a_mask_prompt_counts_only_where_its_flag_says_so(model: Model, seen: Encoded) -> None:
    arrays = reference.prompt_arrays("click")
    mask = torch.where(torch.arange(256) < 100, 10.0, -10.0).expand(1, 1, 256, 256)

    def masks(flag: float) -> torch.Tensor:
        with torch.inference_mode():
            return model.vision.decode_masks(
                model.vision.without_memory(seen.image_embed),
                (seen.high_res_0, seen.high_res_1),
                torch.from_numpy(arrays["point_coords"]),
                torch.from_numpy(arrays["point_labels"]),
                mask_prompt=mask,
                has_mask=torch.tensor([flag]),
            ).masks

    plain = torch_side.segment(model, seen, "click").masks
    assert torch.allclose(masks(0.0), plain, atol=1e-5)
    assert float((masks(1.0) - plain).abs().max()) > 0.1


def test_an_object_that_is_not_there(model: Model, seen: Encoded) -> None:
    vision = copy.deepcopy(model.vision)
    vision.sam_mask_decoder.pred_obj_score_head.layers[2].bias -= 10
    found = torch_side.segment(Model(vision, model.perceiver, model.language), seen, "box")
    assert float(found.object_score) < 0
    assert bool((found.masks == NO_OBJECT_LOGIT).all())
    assert torch.equal(found.object_pointer, vision.no_obj_ptr)


def test_cache_gives_what_the_whole_sequence_gives(model: Model) -> None:
    embeds = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 40, 64), dtype=np.float32))
    with torch.inference_mode():
        whole, _ = model.language.hidden(embeds)
        first, cache = model.language.hidden(embeds[:, :17])
        second, cache = model.language.hidden(embeds[:, 17:39], cache)
        last, _ = model.language.hidden(embeds[:, 39:], cache)
    assert float((torch.cat([first, second, last], dim=1) - whole).abs().max()) <= 1e-5


def test_nano_can_be_trained_with_these_modules() -> None:
    """Two images, three prompts each, in one batch: every weight of the image path gets a finite gradient."""
    torch.manual_seed(0)
    vision, perceiver = VisionTower(NANO.vision), Perceiver(NANO)
    size = NANO.vision.image_size
    seen = vision.encode_image(torch.randn(2, 3, size, size))
    each = Encoded(*(x.repeat_interleave(3, dim=0) for x in seen))
    found = vision.decode_masks(
        vision.without_memory(each.image_embed),
        (each.high_res_0, each.high_res_1),
        torch.rand(6, 2, 2) * size,
        torch.tensor([[1.0, 0.0], [2.0, 3.0], [1.0, -2.0]] * 2),
        mask_prompt=torch.randn(6, 1, size // 4, size // 4),
        has_mask=torch.tensor([1.0, 0.0] * 3),
    )
    tokens = perceiver(found.region_embed, found.mask_tokens)
    assert tokens.shape == (6, NANO.region_tokens, NANO.language.hidden_size)
    frames = perceiver.first_frame(found.region_embed, found.mask_tokens)
    further = perceiver.later_frame(found.region_embed, found.mask_tokens)
    assert further.shape == (6, NANO.frame_tokens, NANO.language.hidden_size)
    # Scores below 0 would hide the masks from the loss.
    shown = found.masks * (found.object_score.sigmoid() > 0)[..., None, None]
    outputs = (shown, found.iou, found.object_score, found.object_pointer, tokens, frames, further)
    sum((x * torch.randn_like(x)).mean() for x in outputs).backward()
    unused = (
        "memory",
        "mask_downsample",
        "no_mem_pos_enc",
        "maskmem",
        "no_obj_embed_spatial",
        "obj_ptr_tpos",
    )
    alternatives = (
        "output_hypernetworks_mlps.1",
        "output_hypernetworks_mlps.2",
        "output_hypernetworks_mlps.3",
    )
    for key, weight in [*vision.named_parameters(), *perceiver.named_parameters()]:
        if key.startswith(unused) or any(part in key for part in alternatives):
            continue
        assert weight.grad is not None, key
        assert bool(torch.isfinite(weight.grad).all()), key
