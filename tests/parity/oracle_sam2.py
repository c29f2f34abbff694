"""Our vision tower against the sam2 package's video predictor, module by module and through a clip.

Weights are random; the configurations are the golden one, one with padded windows and another image size, and
SAM 2.1 Hiera-L's own. Run by `make parity`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import sam2
import torch
from golden import reference
from golden.seeded import HERE
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from pam_edge.bundle.config import VisionConfig, vision_from_sam2
from pam_edge.export.checkpoint.random_weights import random_tensor
from pam_edge.export.model.mask_decoder import Decoded
from pam_edge.export.model.tracker import track
from pam_edge.export.model.vision import Encoded, Segmented, VisionTower

CLOSE = 2e-4  # float32, sums in different orders; values are of order 1 to 10
FRAMES = 4


def golden_config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((HERE / "sam2_tiny.json").read_text())
    return config


def padded_config() -> dict[str, Any]:
    """Windows that do not divide the maps, two heads, another image size, three memory layers."""
    config = golden_config()
    config |= {"image_size": 512, "num_maskmem": 4, "sigmoid_scale_for_mem_enc": 15.0}
    config["image_encoder"]["trunk"] |= {
        "embed_dim": 24,
        "num_heads": 2,
        "stages": [1, 2, 2, 2],
        "global_att_blocks": [4],
        "window_spec": [8, 4, 14, 7],
        "window_pos_embed_bkg_spatial_size": [14, 14],
    }
    config["image_encoder"]["neck"]["backbone_channel_list"] = [192, 96, 48, 24]
    config["memory_attention"]["num_layers"] = 3
    config["memory_encoder"]["fuser"]["num_layers"] = 1
    return config


class Pair(NamedTuple):
    """The same weights in both implementations."""

    theirs: Any
    ours: VisionTower


def pair_of(config: dict[str, Any]) -> Pair:
    theirs = instantiate(OmegaConf.create(config), _recursive_=True).eval()
    state = {key: random_tensor(key, tuple(value.shape), 3) for key, value in theirs.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    ours = VisionTower(vision_from_sam2(config)).eval()
    ours.load_state_dict(state, strict=True)
    return Pair(theirs, ours)


@pytest.fixture(scope="module", params=[golden_config, padded_config])
def pair(request: pytest.FixtureRequest) -> Pair:
    return pair_of(request.param())


@pytest.fixture(scope="module")
def clip(pair: Pair) -> list[Tensor]:
    """Frames as the image encoder reads them: shifting noise, smooth enough to be tracked."""
    size = pair.ours.config.image_size
    coarse = torch.from_numpy(np.random.default_rng(5).standard_normal((1, 3, 24, 24), dtype=np.float32))
    fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return [fine.roll(8 * n, dims=3) for n in range(FRAMES)]


@pytest.fixture(scope="module")
def seen(pair: Pair, clip: list[Tensor]) -> Encoded:
    with torch.inference_mode():
        return pair.ours.encode_image(clip[0])


@pytest.fixture
def state(pair: Pair, clip: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The predictor's own, with our frames in place of a folder of JPEGs; 480 x 640 as the frame size."""
    frames = torch.cat(clip)
    monkeypatch.setattr("sam2.sam2_video_predictor.load_video_frames", lambda **_: (frames, 480, 640))
    with torch.inference_mode():
        yield pair.theirs.init_state("")


def assert_close(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert ours.shape == theirs.shape, what
    difference = float((ours.float() - theirs.float()).abs().max())
    assert difference <= CLOSE * max(1.0, float(theirs.abs().max())), f"{what}: {difference:.3g}"


@torch.inference_mode()
def test_image_encoder(pair: Pair, clip: list[Tensor], seen: Encoded) -> None:
    fine, middle, embed = pair.theirs.forward_image(clip[0])["backbone_fpn"]
    assert_close(seen.image_embed, embed, "image_embed")
    assert_close(seen.high_res_0, fine, "high_res_0")
    assert_close(seen.high_res_1, middle, "high_res_1")


@torch.inference_mode()
def test_prompt_encoder_and_dense_positions(pair: Pair) -> None:
    size = pair.ours.config.image_size
    coords = torch.rand(2, 5, 2) * size
    labels = torch.tensor([[2, 3, 1, 0, -1], [1, 1, 0, -1, -1]])
    mask = torch.randn(2, 1, size // 4, size // 4) * 10
    sparse, dense = pair.theirs.sam_prompt_encoder((coords, labels), None, mask)
    points, silent = pair.ours.sam_prompt_encoder.points(coords, labels.float())
    assert_close(points, sparse, "points")
    assert float(silent.abs().max()) == 0
    assert_close(pair.ours.sam_prompt_encoder.dense(mask, torch.ones(2)), dense, "mask prompt")
    assert_close(pair.ours.image_pe(), pair.theirs.sam_prompt_encoder.get_dense_pe(), "image_pe")


PROMPTS: dict[str, dict[str, Any]] = {
    "click": {"points": [[250.0, 200.0]], "labels": [1]},
    "three clicks": {"points": [[250.0, 200.0], [40.5, 30.25], [600.0, 470.0]], "labels": [1, 0, 1]},
    "box": {"box": [100.0, 90.0, 300.0, 400.0]},
    "box and clicks": {
        "points": [[200.0, 200.0], [320.0, 10.0]],
        "labels": [1, 0],
        "box": [99.0, 90, 300, 400],
    },
}


def in_model_pixels(pair: Pair, prompt: dict[str, Any]) -> tuple[Tensor, Tensor]:
    box = np.array(prompt.get("box", [])).reshape(-1, 2)
    points = np.array(prompt.get("points", [])).reshape(-1, 2)
    coords = np.concatenate([box, points]) / [640, 480] * pair.ours.config.image_size
    labels = [2, 3][: len(box)] + prompt.get("labels", [])
    return torch.tensor(coords[None], dtype=torch.float32), torch.tensor([labels], dtype=torch.float32)


def decode(pair: Pair, seen: Encoded, prompt: dict[str, Any], mask: Tensor | None = None) -> Segmented:
    coords, labels = in_model_pixels(pair, prompt)
    return pair.ours.decode_masks(
        pair.ours.without_memory(seen.image_embed),
        (seen.high_res_0, seen.high_res_1),
        coords,
        labels,
        mask_prompt=mask,
    )


def compare(pair: Pair, ours: Segmented, theirs: dict[str, Any], tapped: list[Any]) -> None:
    hs, src = tapped[-1]
    assert_close(ours.masks, theirs["pred_masks"], "masks")
    assert_close(ours.object_score, theirs["object_score_logits"], "object_score")
    assert_close(ours.object_pointer, theirs["obj_ptr"], "object_pointer")
    assert_close(ours.region_embed.flatten(2).transpose(1, 2), src, "region_embed")
    assert_close(ours.mask_tokens[:, 1], hs[:, 2], "second mask token")
    distance = (hs[:, 2:6] - ours.mask_tokens[:, :1]).abs().amax(-1)
    assert float(distance.min()) <= CLOSE * float(hs.abs().max()), "first mask token is none of theirs"


@pytest.fixture
def tapped(pair: Pair) -> Iterator[list[Any]]:
    """What the predictor's two-way transformer gave, call by call."""
    calls: list[Any] = []
    handle = pair.theirs.sam_mask_decoder.transformer.register_forward_hook(lambda *a: calls.append(a[2]))
    yield calls
    handle.remove()


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(pair: Pair, seen: Encoded, state: dict[str, Any], tapped: list[Any], name: str) -> None:
    prompt = PROMPTS[name]
    pair.theirs.add_new_points_or_box(state, 0, 1, **prompt)
    theirs = state["temp_output_dict_per_obj"][0]["cond_frame_outputs"][0]
    compare(pair, decode(pair, seen, prompt), theirs, tapped)


def test_refinement_clicks(pair: Pair, seen: Encoded, state: dict[str, Any], tapped: list[Any]) -> None:
    """A further click reads the mask before it, as logits clamped to +-32, with all clicks so far."""
    first = {"points": [[250.0, 200.0]], "labels": [1]}
    both = {"points": [[250.0, 200.0], [300.0, 220.0]], "labels": [1, 0]}
    pair.theirs.add_new_points_or_box(state, 0, 1, **first)
    pair.theirs.add_new_points_or_box(
        state, 0, 1, points=[[300.0, 220.0]], labels=[0], clear_old_points=False
    )
    theirs = state["temp_output_dict_per_obj"][0]["cond_frame_outputs"][0]
    before = decode(pair, seen, first).masks.clamp(-32, 32)
    compare(pair, decode(pair, seen, both, before), theirs, tapped)


@torch.inference_mode()
def test_mask_prompt_without_points(pair: Pair, seen: Encoded, tapped: list[Any]) -> None:
    """No click and no box: one point that is none, beside the padding point."""
    side = pair.ours.config.image_size // 4
    mask = torch.where(torch.arange(side) < side // 3, 8.0, -8.0).expand(1, 1, side, side).contiguous()
    conditioned = pair.ours.without_memory(seen.image_embed)
    theirs = pair.theirs._forward_sam_heads(
        conditioned, mask_inputs=mask, high_res_features=[seen.high_res_0, seen.high_res_1]
    )
    ours = pair.ours.decode_masks(
        conditioned,
        (seen.high_res_0, seen.high_res_1),
        torch.zeros(1, 1, 2),
        -torch.ones(1, 1),
        mask_prompt=mask,
    )
    named = {"pred_masks": theirs[3], "obj_ptr": theirs[5], "object_score_logits": theirs[6]}
    compare(pair, ours, named, tapped)


@torch.inference_mode()
def test_object_that_is_not_there(pair: Pair, seen: Encoded) -> None:
    there, gone = copy.deepcopy(pair.theirs), copy.deepcopy(pair.ours)
    for model in (there, gone):
        model.sam_mask_decoder.pred_obj_score_head.layers[2].bias -= 50
    prompt = PROMPTS["click"]
    coords, labels = in_model_pixels(pair, prompt)
    theirs = there._forward_sam_heads(
        gone.without_memory(seen.image_embed),
        point_inputs={"point_coords": coords, "point_labels": labels.int()},
        high_res_features=[seen.high_res_0, seen.high_res_1],
    )
    ours = decode(Pair(there, gone), seen, prompt)
    assert float(ours.object_score) < 0
    assert_close(ours.masks, theirs[3], "masks")
    assert_close(ours.object_pointer, theirs[5], "object_pointer")
    memory, _ = there._encode_new_memory(
        [seen.image_embed.flatten(2).permute(2, 0, 1)],
        [seen.image_embed.shape[2:]],
        torch.nn.functional.interpolate(theirs[3], (pair.ours.config.image_size,) * 2, mode="bilinear"),
        theirs[6],
        False,
    )
    assert_close(
        gone.encode_memory(seen.image_embed, ours.masks, ours.object_score, prompted=False), memory, "memory"
    )


@torch.inference_mode()
@pytest.mark.parametrize("scale", [0.02, 0.05, 1.0, 50.0])
def test_choice_of_the_first_mask_token(pair: Pair, scale: float) -> None:
    """SAM 2's own rule for dynamic multimask output, which PAM uses for the token alone."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.randn(64, 4, 16, 16, generator=generator) * scale + torch.randn(
        64, 4, 1, 1, generator=generator
    )
    iou = torch.rand(64, 4, generator=generator)
    tokens = torch.arange(4.0).expand(64, 4)[..., None]
    _, picked = pair.theirs.sam_mask_decoder._dynamic_multimask_via_stability(masks, iou)
    expected = (iou == picked).float().argmax(1)
    found = pair.ours.choose_tokens(Decoded(masks, iou, torch.ones(64, 1), tokens, masks))
    assert torch.equal(found[:, 0, 0], expected.float())
    assert bool((found[:, 1, 0] == 0).all())


@pytest.mark.parametrize("name", ["box", "three clicks"])
def test_tracking(pair: Pair, clip: list[Tensor], state: dict[str, Any], name: str) -> None:
    prompt = PROMPTS[name]
    pair.theirs.add_new_points_or_box(state, 0, 1, **prompt)
    for _ in pair.theirs.propagate_in_video(state):
        pass
    kept = state["output_dict_per_obj"][0]
    coords, labels = in_model_pixels(pair, prompt)
    frames = (pair.ours.encode_image(image) for image in clip)
    for n, ours in enumerate(track(pair.ours, frames, len(clip), coords, labels)):
        theirs = kept["cond_frame_outputs" if n == 0 else "non_cond_frame_outputs"][n]
        # Memories are rounded to bfloat16: a difference of one sum's order may become one of 2^-8.
        for what, a, b in (
            ("masks", ours.masks, theirs["pred_masks"]),
            ("object_score", ours.object_score, theirs["object_score_logits"]),
            ("object_pointer", ours.object_pointer, theirs["obj_ptr"]),
        ):
            assert float((a - b).abs().max()) <= 2e-3 * max(1.0, float(b.abs().max())), f"frame {n}: {what}"


def hiera_large() -> dict[str, Any]:
    """SAM 2.1 Hiera-L's configuration with PAM's differences, as a video predictor."""
    path = Path(sam2.__file__).parent / "configs" / "sam2.1" / "sam2.1_hiera_l.yaml"
    config: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path).model)
    tiny = golden_config()
    extras = (
        "_target_",
        "multimask_output_in_sam",
        "sam_mask_decoder_extra_args",
        "binarize_mask_from_pts_for_mem_enc",
    )
    return config | {key: tiny[key] for key in extras}


def test_defaults_are_hiera_large() -> None:
    config = hiera_large()
    assert vision_from_sam2(config) == VisionConfig()
    with torch.device("meta"):
        ours = VisionTower(VisionConfig()).state_dict()
    theirs = instantiate(OmegaConf.create(config), _recursive_=True).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_hiera_large_on_a_real_frame() -> None:
    """The whole tower at its real size: 224 M random weights, one look, one box."""
    pair = pair_of(hiera_large())
    image = torch.from_numpy(reference.frame_pixels(0))
    with torch.inference_mode():
        fine, middle, embed = pair.theirs.forward_image(image)["backbone_fpn"]
        seen = pair.ours.encode_image(image)
        for ours, theirs in zip(seen, (embed, fine, middle), strict=True):
            assert float((ours - theirs).abs().max()) <= 1e-3 * float(theirs.abs().max())
        coords, labels = in_model_pixels(pair, PROMPTS["box"])
        theirs = pair.theirs._forward_sam_heads(
            pair.ours.without_memory(embed),
            point_inputs={"point_coords": coords, "point_labels": labels.int()},
            high_res_features=[fine, middle],
        )
        found = pair.ours.decode_masks(pair.ours.without_memory(embed), (fine, middle), coords, labels)
    assert_close(found.masks, theirs[3], "masks")
