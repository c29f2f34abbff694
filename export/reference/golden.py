"""PyTorch's outputs for a generated picture and three prompts: the reference of every bundle.

Each graph's outputs are recorded whole while its module is loaded; at the end they are subsampled into
`golden.npz`. Knows modules and graphs, no weight files and no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pam_edge.bundle.config import LanguageConfig, Variant
from pam_edge.bundle.golden import Limits, Losses, RecordedAnswer, golden_content
from pam_edge.export.graphs.image_graphs import StatelessName, graph_specs
from pam_edge.export.model.language import Language
from pam_edge.image.preprocess import normalized
from pam_edge.text.tokenization import Lang, Texts
from pam_edge.video.memory_bank import SPARE_SLOTS, remembered_case

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Called = Callable[..., Any]  # a stateless module, or what stands in for one
Embed = Callable[[Sequence[int]], Tensor]  # tokens -> embeddings [1, n, H]
Logits = Callable[[Tensor, int], Tensor]  # embeddings [1, T, H] and a count of last positions -> [count, V]
SHOWN = 16  # region tokens in the decoder's prompt: enough to tell positions apart, small to store
STEPS = 8  # greedy tokens after that prompt
SAID = "A red disc with a pattern of checks, on a ground that grows lighter to one side."
SAID_STEPS = 16  # tokens of it after that prompt, where greedy ones would take too long
TOP = 8  # best tokens kept of each step
TASK = "brief"
LANG: Lang = "en"
MAX_ANSWER_TOKENS = 32
WHOLE_ANSWER = 100_000_000  # language weights up to which a whole answer is worth its time
CLICK, CLICK_AT = "click", (22.0, 34.0)  # of 64


def picture(size: int) -> npt.NDArray[np.uint8]:
    """A scene [size, size, 3]: graded ground, a checked disc on the left, a striped box on the right."""
    y, x = np.mgrid[:size, :size] * (64 / size)
    scene = np.stack([60 + 2 * x, 40 + 2 * y, 90 + (x + y) / 2], axis=-1)
    disc = (x - CLICK_AT[0]) ** 2 + (y - CLICK_AT[1]) ** 2 < 14**2
    checks = (x // 3 + y // 3) % 2
    scene[disc] = np.stack([230 - 60 * checks, 40 + 30 * checks, 50 + 0 * checks], axis=-1)[disc]
    box = (abs(x - 47) < 9) & (abs(y - 24) < 12)
    stripes = (y // 2) % 2
    scene[box] = np.stack([30 + 40 * stripes, 90 + 80 * stripes, 200 + 0 * stripes], axis=-1)[box]
    return scene.astype(np.uint8)


def cases(variant: Variant) -> dict[str, Arrays]:
    """Prompts on that scene for the mask decoder: a click; a box with clicks; a mask with a click."""
    side = 4 * variant.vision.embed_size
    y, x = np.mgrid[:side, :side] * (64 / side)
    mask = np.where((abs(x - 47) < 8) & (abs(y - 24) < 11), np.float32(10), np.float32(-10))

    def points(*given: tuple[float, float, int]) -> Arrays:
        found = np.array([given], np.float32)
        coords = found[:, :, :2] * np.float32(variant.vision.image_size / 64)
        return {"point_coords": coords, "point_labels": found[:, :, 2]}

    return {
        CLICK: points((*CLICK_AT, 1)),
        "box": points((38, 12, 2), (56, 36, 3), (47, 24, 1), (*CLICK_AT, 0)),
        "mask": {**points((50, 20, 1)), "mask_prompt": mask[None, None]},
    }


def record_image_encoder(graph: Called, variant: Variant) -> Arrays:
    """The picture's features, as `image_encoder/OUTPUT`."""
    image = normalized(picture(variant.vision.image_size))
    return _run(graph, "image_encoder", variant, {"image": image}, at="image_encoder")


def record_mask_decoder(graph: Called, variant: Variant, recorded: Mapping[str, Array]) -> Arrays:
    """Every prompt's outputs from the recorded features, as `mask_decoder/CASE/OUTPUT`."""
    side = 4 * variant.vision.embed_size
    seen = {
        spec.name: recorded[f"image_encoder/{spec.name}"] for spec in graph_specs(variant, "image_encoder")[1]
    }
    found: Arrays = {}
    for case, prompt in cases(variant).items():
        feeds = {
            "mask_prompt": np.zeros((1, 1, side, side), np.float32),
            "has_mask": np.full(1, float("mask_prompt" in prompt), np.float32),
            "no_memory": np.ones(1, np.float32),
            **seen,
            **prompt,
        }
        found |= _run(graph, "mask_decoder", variant, feeds, at=f"mask_decoder/{case}")
    return found


def record_perceiver(
    graph: Called,
    variant: Variant,
    recorded: Mapping[str, Array],
    name: Literal["perceiver", "perceiver_frame"] = "perceiver",
) -> Arrays:
    """Every prompt's tokens from the recorded masks, as `NAME/CASE/OUTPUT`."""
    return _run_cases(graph, name, variant, lambda case: _of(recorded, f"mask_decoder/{case}/"))


def record_memory_encoder(graph: Called, variant: Variant, recorded: Mapping[str, Array]) -> Arrays:
    """What is remembered of the picture with every prompt's mask, as `memory_encoder/CASE/memory`."""
    seen = {**_of(recorded, "image_encoder/"), "prompted": np.ones(1, np.float32)}
    return _run_cases(
        graph, "memory_encoder", variant, lambda case: {**seen, **_of(recorded, f"mask_decoder/{case}/")}
    )


def record_memory_attention(graph: Called, variant: Variant, recorded: Mapping[str, Array]) -> Arrays:
    """The picture once more, after every prompt's memories, as `memory_attention/CASE/conditioned`."""

    def feeds(case: str) -> Arrays:
        memory = recorded[f"memory_encoder/{case}/memory"]
        pointer = recorded[f"mask_decoder/{case}/object_pointer"]
        return {**_of(recorded, "image_encoder/"), **remembered_case(memory, pointer, slots=SPARE_SLOTS)}

    return _run_cases(graph, "memory_attention", variant, feeds)


def record_decoder(language: Language, texts: Texts, recorded: Mapping[str, Array]) -> Arrays:
    """A short prompt (text, some region tokens, text), then greedy steps: logits and best tokens of each."""
    embeds = _prompt(_table(language), texts, _region(recorded)[:, :SHOWN])
    tokens, logits = _greedy(language, embeds, steps=STEPS)
    return _steps(embeds, tokens, logits)


def record_forced(
    embed: Embed, logits: Logits, texts: Texts, said: Sequence[int], recorded: Mapping[str, Array]
) -> Arrays:
    """The same of the tokens `said`, whatever the model would say: for one that is run layer by layer.

    `logits` gives those of the last so many positions of a text's embeddings.
    """
    embeds = _prompt(embed, texts, _region(recorded)[:, :SHOWN])
    said = tuple(said[:SAID_STEPS])
    return _steps(embeds, said, logits(torch.cat([embeds, embed(said)], dim=1), len(said) + 1))


def record_answer(
    language: Language,
    texts: Texts,
    recorded: Mapping[str, Array],
    *,
    variant: Variant,
    stop_ids: Sequence[int],
    limit: float,
) -> RecordedAnswer | None:
    """A whole answer to the click, cut where rounding could choose another token (`limit` 0: not cut).

    None where that leaves nothing.
    """
    embeds = _prompt(_table(language), texts, _region(recorded))
    tokens, logits = _greedy(language, embeds, steps=MAX_ANSWER_TOKENS)
    sure: list[int] = []
    margins: list[float] = []
    for token, row in zip(tokens, logits, strict=False):
        best, second = row.topk(2).values.tolist()
        if token in stop_ids or best - second <= 2 * limit * max(1.0, float(row.abs().max())):
            break
        sure.append(token)
        margins.append(round((best - second) / max(float(row.std()), 1e-9), 3))
    scale = variant.vision.image_size / 64
    point = (CLICK_AT[0] * scale, CLICK_AT[1] * scale)
    if not sure:
        return None
    return RecordedAnswer(task=TASK, lang=LANG, point=point, token_ids=tuple(sure), margins=tuple(margins))


def golden_file(
    recorded: Mapping[str, Array], *, variant: Variant, limits: Limits | Losses, answer: RecordedAnswer | None
) -> bytes:
    """golden.npz: the picture, the prompts, and everything recorded, thinned as `limits` need it."""
    scene = picture(variant.vision.image_size)
    return golden_content(recorded, picture=scene, prompts=cases(variant), bounds=limits, answer=answer)


def _of(recorded: Mapping[str, Array], prefix: str) -> Arrays:
    """What was recorded below `prefix`, by the rest of its name."""
    return {key.removeprefix(prefix): value for key, value in recorded.items() if key.startswith(prefix)}


def _run_cases(
    graph: Called, name: StatelessName, variant: Variant, feeds: Callable[[str], Mapping[str, Array]]
) -> Arrays:
    """A graph's outputs for every case, as `NAME/CASE/OUTPUT`."""
    found: Arrays = {}
    for case in cases(variant):
        found |= _run(graph, name, variant, feeds(case), at=f"{name}/{case}")
    return found


@torch.no_grad()
def _run(
    graph: Called, name: StatelessName, variant: Variant, feeds: Mapping[str, Array], *, at: str
) -> Arrays:
    inputs, outputs = graph_specs(variant, name)
    given = graph(*(torch.from_numpy(np.ascontiguousarray(feeds[spec.name])) for spec in inputs))
    values: tuple[Tensor, ...] = (given,) if isinstance(given, Tensor) else tuple(given)
    return {f"{at}/{spec.name}": value.numpy() for spec, value in zip(outputs, values, strict=True)}


def _region(recorded: Mapping[str, Array]) -> Tensor:
    return torch.from_numpy(recorded[f"perceiver/{CLICK}/region_tokens"])


def _table(language: Language) -> Embed:
    @torch.no_grad()
    def embed(ids: Sequence[int]) -> Tensor:
        rows: Tensor = language.embed_tokens(torch.tensor([list(ids)]))
        return rows

    return embed


def _prompt(embed: Embed, texts: Texts, region: Tensor) -> Tensor:
    """[1, T, H]: the text before, the region's tokens, the text after."""
    return torch.cat([embed(texts.ids_before), region, embed(texts.ids_after(TASK, lang=LANG))], dim=1)


def _steps(embeds: Tensor, tokens: Sequence[int], logits: Tensor) -> Arrays:
    """A prompt [1, T, H], the tokens after it and the logits [n + 1, V] of both, as entries."""
    top, ids = logits.topk(min(TOP, logits.shape[1]))
    return {
        "decoder/embeds": embeds[0].numpy(),
        "decoder/tokens": np.array(tokens, np.int64),
        "decoder/logits": logits.numpy(),
        "decoder/top": top.numpy(),
        "decoder/top_ids": ids.numpy(),
    }


@torch.no_grad()
def _greedy(language: Language, embeds: Tensor, *, steps: int) -> tuple[list[int], Tensor]:
    """The likeliest token `steps` times, and logits [steps + 1, V] of the prompt and of each token."""
    logits, cache = language(embeds)
    rows, tokens = [logits[0]], []
    for _ in range(steps):
        tokens.append(int(rows[-1].argmax()))
        logits, cache = language(language.embed_tokens(torch.tensor([[tokens[-1]]])), cache)
        rows.append(logits[0])
    return tokens, torch.stack(rows)


def answers_greedily(config: LanguageConfig) -> bool:
    """Whether a model is small enough for a whole greedy answer to be worth its time and memory."""
    return config.layers * config.hidden_size * (3 * config.mlp + 2 * config.hidden_size) <= WHOLE_ANSWER
