"""What `bench` times: one click with its answer, many clicks, a video, the language decoder alone, operators.

Each function does one turn on a bundle whose graphs are open, with caches that are empty, and gives
nanoseconds by stage. The picture is a rendered scene, whatever the weights. Knows no device and no files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import ImageChops

from pam_edge.benchmarks.harness.opened import DECODER, Opened, Traced
from pam_edge.benchmarks.harness.scene import boxes, clicks, picture
from pam_edge.core.errors import UsageError
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.generation import bundle_step_bytes
from pam_edge.video.stream import Caption, Plan, follow
from pam_edge.video.tracker import Frame

Task = Literal["image", "clicks", "video", "decode", "operators"]
TASKS: tuple[Task, ...] = get_args(Task)
ANSWER = "brief"
_PICTURE = ("image_encoder", "mask_decoder", "perceiver", DECODER)
_VIDEO = (*_PICTURE, "memory_attention", "memory_encoder", "perceiver_frame")
GRAPHS: dict[Task, tuple[str, ...]] = {
    "image": _PICTURE,
    "clicks": _PICTURE,
    "video": _VIDEO,
    "decode": (DECODER,),
    "operators": _VIDEO,
}
Mark = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """How much one turn does. Only what a task reads is part of its rows (`settings`)."""

    tokens: int = 32  # of each answer
    clicks: int = 1
    prompt: int = 1070  # tokens
    frames: int = 16
    objects: int = 1
    size: int = 0  # longest side of the picture in pixels; 0: as it was rendered

    def settings(self, task: Task) -> dict[str, str]:
        """What a row of that task depends on."""
        match task:
            case "image":
                names: tuple[str, ...] = ("size", "tokens")
            case "clicks":
                names = ("clicks", "tokens")
            case "video" | "operators":
                names = ("frames", "objects", "tokens")
            case "decode":
                names = ("prompt", "tokens")
        return {name: str(getattr(self, name)) for name in names}


@dataclass
class Turn:
    """What one turn gave: samples in ns, how much work a sample is, figures beside them."""

    times: dict[str, list[int]] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, name: str, ns: float) -> None:
        """One more sample."""
        self.times.setdefault(name, []).append(round(ns))

    def rate(self, name: str, tokens: float, *, step_bytes: int = 0) -> None:
        """Tokens a second of the last sample, and bytes of weights a second where `step_bytes` are read for
        each token.
        """
        spent = self.times[name][-1]
        if not tokens or not spent:
            return
        self.work[name] = tokens
        figures = {"tokens_per_s": tokens / spent * 1e9}
        if step_bytes:
            figures |= {"gb_per_s": figures["tokens_per_s"] * step_bytes / 1e9, "bytes_per_token": step_bytes}
        self.figures[name] = figures


def take_turn(opened: Opened, task: Task, work: Work, mark: Mark) -> Turn:
    """One turn. Raises what the run side raises."""
    match task:
        case "image":
            return _image(opened, work, mark)
        case "clicks":
            return _clicks(opened, work, mark)
        case "video":
            return _video(opened, work, mark)
        case "decode":
            return _decode(opened, work, mark)
        case "operators":
            return _operators(opened, work, mark)


def _image(opened: Opened, work: Work, mark: Mark) -> Turn:
    """One click on one picture, one answer."""
    image, ((x, y), *_) = picture(), clicks(1)
    if work.size:
        scale = work.size / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        x, y = x * scale, y * scale
    pam, turn = opened.pam(), Turn()
    began = time.perf_counter_ns()
    mark("look")
    seen = pam.look(image)
    mark("click")
    region = pam.segment(seen, Prompt(points=((x, y, 1),)))
    masked = time.perf_counter_ns()
    mark("words")
    description = pam.describe(region, [ANSWER], max_tokens=work.tokens)
    for _ in description:
        pass
    done = time.perf_counter_ns()
    mark("end")
    for stages in (region.timing_ms, description.timing_ms):
        for name in ("preprocess", "encode", "mask", "perceiver", "prefill", "decode"):
            if name in stages:
                turn.add(name, stages[name] * 1e6)
    # From the click on a picture already seen.
    turn.add("first token", (region.timing_ms["mask"] + description.timing_ms["first_token"]) * 1e6)
    turn.add("first mask", masked - began)
    turn.add("total", done - began)
    speed = description.speed
    turn.rate("prefill", speed.get("prefill_tokens", 0))
    step = bundle_step_bytes(opened.bundle.manifest)
    turn.rate("decode", speed.get("decode_tokens", 0), step_bytes=step)
    return turn


def _clicks(opened: Opened, work: Work, mark: Mark) -> Turn:
    """Clicks on one picture, each with one answer."""
    image, points = picture(), clicks(work.clicks)
    pam, turn = opened.pam(), Turn()
    mark("look")
    began = time.perf_counter_ns()
    seen = pam.look(image)
    looked = time.perf_counter_ns()
    mark("clicks")
    for point in points:
        clock = time.perf_counter_ns()
        region = pam.segment(seen, Prompt(points=((*point, 1),)))
        turn.add("mask", time.perf_counter_ns() - clock)
        for _ in pam.describe(region, [ANSWER], max_tokens=work.tokens):
            pass
        turn.add("click", time.perf_counter_ns() - clock)
    mark("end")
    done = time.perf_counter_ns()
    turn.add("look", looked - began)
    turn.add("all clicks", done - looked)
    turn.add("total", done - began)
    turn.work |= {"all clicks": work.clicks, "total": work.clicks}
    return turn


def _video(opened: Opened, work: Work, mark: Mark) -> Turn:
    """Objects followed through a clip and told at its end. The picture drifts a pixel a frame."""
    image, found = picture(), boxes(work.objects)
    prompts = {number: Prompt(box=box) for number, box in enumerate(found, start=1)}
    shots = [ImageChops.offset(image, n, 0) for n in range(work.frames)]  # before the clock starts
    pam, turn = opened.pam(), Turn()
    plan = Plan("clip", length=work.frames, max_tokens=work.tokens)
    mark("frames")
    began = time.perf_counter_ns()
    for event in follow(pam, shots, {0: prompts}, plan):
        match event:
            case Frame():
                turn.add("frame", event.timing_ms["whole"] * 1e6)
                for name in ("encode", "memory", "mask", "remember"):
                    turn.add(name, event.timing_ms[name] * 1e6)
            case Caption():
                for name, stage in (("first word", "first_word"), ("caption", "whole")):
                    if stage in event.timing_ms:
                        turn.add(name, event.timing_ms[stage] * 1e6)
            case _:
                pass
    turn.add("total", time.perf_counter_ns() - began)
    mark("end")
    turn.work["total"] = work.frames
    return turn


def _decode(opened: Opened, work: Work, mark: Mark) -> Turn:
    """Drawn token ids into an empty cache, then greedy tokens, all of them steps."""
    manifest = opened.bundle.manifest
    language = manifest.variant.language
    if work.prompt + work.tokens > language.max_length:
        raise UsageError(
            f"a prompt of {work.prompt} tokens and {work.tokens} after it: this bundle holds "
            f"{language.max_length} in all; give a shorter --prompt"
        )
    ids = np.random.default_rng(7).integers(0, language.vocab_size, work.prompt).tolist()
    decoder, turn = opened.decoder().branch(1), Turn()
    mark("prefill")
    began = time.perf_counter_ns()
    token = int(decoder.prefill([decoder.embed(ids)])[0].argmax())
    filled = time.perf_counter_ns()
    mark("decode")
    for _ in range(work.tokens):
        token = int(decoder.step([token])[0].argmax())
    done = time.perf_counter_ns()
    mark("end")
    turn.add("prefill", filled - began)
    turn.add("decode", done - filled)
    turn.add("total", done - began)
    turn.rate("prefill", work.prompt)
    turn.rate("decode", work.tokens, step_bytes=bundle_step_bytes(manifest))
    return turn


def _operators(opened: Opened, work: Work, mark: Mark) -> Turn:
    """One click and one video, by operator: a sample is what it took in all of one call of its graph."""
    if not isinstance(opened, Traced):
        raise ValueError("operators are told by a bundle that is opened for that")
    turn = Turn()
    opened.open(_VIDEO)  # again, where a turn was before this one
    began = time.perf_counter_ns()
    _image(opened, work, mark)
    _video(opened, work, mark)
    turn.add("total", time.perf_counter_ns() - began)
    for graph, calls in opened.traces().items():
        names = {name for call in calls for name in call.operators}
        spent = {name: [sum(call.operators.get(name, ())) for call in calls] for name in names}
        spent["rest"] = [call.rest for call in calls]
        turn.times[f"{graph}: all"] = [call.ns for call in calls]
        for name in sorted(spent, key=lambda name: -sum(spent[name])):
            turn.times[f"{graph}: {name}"] = spent[name]
            each = sum(len(call.operators.get(name, ())) for call in calls) / len(calls)
            if each:
                turn.figures[f"{graph}: {name}"] = {"calls": each}
    return turn


def open_for(task: Task, folder: Path, threads: int) -> Opened:
    """A bundle's manifest, for turns of a task. Raises like `Opened`, and UsageError for another engine."""
    return (Traced if task == "operators" else Opened)(folder, threads)


def as_work(given: Mapping[str, int]) -> Work:
    """Work from its fields by name."""
    return Work(**given)
