"""Parity must notice what is easy to get wrong: each mistake, put in on purpose, has to draw complaints."""

from __future__ import annotations

import pytest
import torch
from golden import reference, torch_side
from golden.reference import PROMPTS
from golden.torch_side import Model
from torch import Tensor

from pam_edge.export.model import perceiver as perceiver_module
from pam_edge.export.model.mask_decoder import Decoded, MaskDecoder
from pam_edge.export.model.perceiver import Perceiver
from pam_edge.export.model.two_way import TwoWayLayer
from pam_edge.export.model.vision import Encoded, MaskHead


@pytest.fixture(scope="module")
def seen(golden_model: Model) -> Encoded:
    return torch_side.look(golden_model)


def complaints(model: Model, seen: Encoded) -> list[str]:
    """All prompts' complaints; without a mutation there are none."""
    return [
        line for name in PROMPTS for line in reference.complaints(name, torch_side.region(model, seen, name))
    ]


def test_unmutated_there_are_none(golden_model: Model, seen: Encoded) -> None:
    assert complaints(golden_model, seen) == []


def test_row_major_token_order(golden_model: Model, seen: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    original = perceiver_module.pixel_shuffle
    monkeypatch.setattr(
        Perceiver, "shuffle", lambda _, image, factor: original(image, factor).transpose(2, 3)
    )
    assert_only(complaints(golden_model, seen), "region_tokens")


def test_one_mask_token_instead_of_two(
    golden_model: Model, seen: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Perceiver.perceive
    monkeypatch.setattr(
        Perceiver, "perceive", lambda self, image, tokens, pe: original(self, image, tokens[:, :1], pe)
    )
    assert_only(complaints(golden_model, seen), "region_tokens")


@pytest.mark.parametrize("choice", ["always the single one", "the least likely alternative", "swapped"])
def test_wrong_choice_of_mask_tokens(
    golden_model: Model, seen: Encoded, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    original = MaskHead.choose_tokens

    def chosen(self: MaskHead, decoded: Decoded) -> Tensor:
        tokens = decoded.tokens
        match choice:
            case "always the single one":
                return tokens[:, [0, 0]]
            case "the least likely alternative":
                return original(self, decoded._replace(iou=-decoded.iou))
            case _:
                return original(self, decoded).flip(1)

    monkeypatch.setattr(MaskHead, "choose_tokens", chosen)
    found = complaints(golden_model, seen)
    assert_only(found, "mid_mask_tokens_out", "region_tokens")
    assert any("mid_mask_tokens_out" in line for line in found)


def test_stock_multimask_setting(golden_model: Model, seen: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock SAM 2.1 shows the best of three alternatives for a first click."""
    original = MaskDecoder.forward

    def stock(self: MaskDecoder, *args: Tensor, **named: Tensor) -> Decoded:
        decoded = original(self, *args, **named)  # type: ignore[arg-type]
        best = 1 + int(decoded.iou[0, 1:].argmax())
        order = [best, *range(1, 4)]
        return decoded._replace(masks=decoded.masks[:, order], tokens=decoded.tokens[:, order])

    monkeypatch.setattr(MaskDecoder, "forward", stock)
    found = complaints(golden_model, seen)
    for name in PROMPTS:
        assert any(line.startswith(f"{name}/pred_masks") for line in found)
        assert any(line.startswith(f"{name}/obj_ptr") for line in found)


@pytest.mark.parametrize("where", ["mask decoder", "perceiver"])
def test_residual_in_the_first_self_attention(
    golden_model: Model, seen: Encoded, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    owner = (
        golden_model.perceiver if where == "perceiver" else golden_model.vision.sam_mask_decoder.transformer
    )
    original = TwoWayLayer.attend_self

    def with_residual(self: TwoWayLayer, queries: Tensor, query_pe: Tensor, mask: Tensor | None) -> Tensor:
        attended = original(self, queries, query_pe, mask)
        return queries + attended if self is owner.layers[0] else attended

    monkeypatch.setattr(TwoWayLayer, "attend_self", with_residual)
    found = complaints(golden_model, seen)
    key = "region_tokens" if where == "perceiver" else "pred_masks"
    for name in PROMPTS:
        assert any(line.startswith(f"{name}/{key}") for line in found)


def test_complaints_notice_nan(golden_model: Model, seen: Encoded) -> None:
    region = torch_side.region(golden_model, seen, "click")
    region["masks"] = torch.full((1, 1, 256, 256), float("nan")).numpy()
    assert len(reference.complaints("click", region)) == 1


def assert_only(found: list[str], *keys: str) -> None:
    """Complaints there are, about nothing but `keys`."""
    assert found
    assert all(any(key in line for key in keys) for line in found), found
