"""What `bench` times: one click with its answer, many clicks, a video, the language decoder alone, operators.

Each function does one iteration on a bundle whose graphs are open, with caches that are empty, and gives
nanoseconds by stage. The picture is a rendered scene, whatever the weights. Knows no device and no files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import ImageChops

from pam_edge.benchmarks.harness.messages import Iteration
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
    """How much one iteration does. Only what a task reads is part of its rows (`settings`)."""

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


def iterate(opened: Opened, task: Task, work: Work, mark: Mark) -> Iteration:
    """One iteration. Raises what the run side raises."""
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


def _image(opened: Opened, work: Work, mark: Mark) -> Iteration:
    """One click on one picture, one answer."""
    image, ((x, y), *_) = picture(), clicks(1)
    if work.size:
        scale = work.size / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        x, y = x * scale, y * scale
    pam, found = opened.pam(), Iteration()
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
                found.add(name, stages[name] * 1e6)
    # From the click on a picture already seen.
    found.add("first token", (region.timing_ms["mask"] + description.timing_ms["first_token"]) * 1e6)
    found.add("first mask", masked - began)
    found.add("total", done - began)
    speed = description.speed
    found.rate("prefill", speed.get("prefill_tokens", 0))
    step = bundle_step_bytes(opened.bundle.manifest)
    found.rate("decode", speed.get("decode_tokens", 0), step_bytes=step)
    return found


def _clicks(opened: Opened, work: Work, mark: Mark) -> Iteration:
    """Clicks on one picture, each with one answer."""
    image, points = picture(), clicks(work.clicks)
    pam, found = opened.pam(), Iteration()
    mark("look")
    began = time.perf_counter_ns()
    seen = pam.look(image)
    looked = time.perf_counter_ns()
    mark("clicks")
    for point in points:
        clock = time.perf_counter_ns()
        region = pam.segment(seen, Prompt(points=((*point, 1),)))
        found.add("mask", time.perf_counter_ns() - clock)
        for _ in pam.describe(region, [ANSWER], max_tokens=work.tokens):
            pass
        found.add("click", time.perf_counter_ns() - clock)
    mark("end")
    done = time.perf_counter_ns()
    found.add("look", looked - began)
    found.add("all clicks", done - looked)
    found.add("total", done - began)
    found.work |= {"all clicks": work.clicks, "total": work.clicks}
    return found


def _video(opened: Opened, work: Work, mark: Mark) -> Iteration:
    """Objects followed through a clip and told at its end. The picture drifts a pixel a frame."""
    image = picture()
    prompts = {number: Prompt(box=box) for number, box in enumerate(boxes(work.objects), start=1)}
    shots = [ImageChops.offset(image, n, 0) for n in range(work.frames)]  # before the clock starts
    pam, found = opened.pam(), Iteration()
    plan = Plan("clip", length=work.frames, max_tokens=work.tokens)
    mark("frames")
    began = time.perf_counter_ns()
    for event in follow(pam, shots, {0: prompts}, plan):
        match event:
            case Frame():
                found.add("frame", event.timing_ms["whole"] * 1e6)
                for name in ("encode", "memory", "mask", "remember"):
                    found.add(name, event.timing_ms[name] * 1e6)
            case Caption():
                for name, stage in (("first word", "first_word"), ("caption", "whole")):
                    if stage in event.timing_ms:
                        found.add(name, event.timing_ms[stage] * 1e6)
            case _:
                pass
    found.add("total", time.perf_counter_ns() - began)
    mark("end")
    found.work["total"] = work.frames
    return found


def _decode(opened: Opened, work: Work, mark: Mark) -> Iteration:
    """Drawn token ids into an empty cache, then greedy tokens, all of them steps."""
    manifest = opened.bundle.manifest
    language = manifest.variant.language
    if work.prompt + work.tokens > language.max_length:
        raise UsageError(
            f"a prompt of {work.prompt} tokens and {work.tokens} after it: this bundle holds "
            f"{language.max_length} in all; give a shorter --prompt"
        )
    ids = np.random.default_rng(7).integers(0, language.vocab_size, work.prompt).tolist()
    decoder, found = opened.decoder().branch(1), Iteration()
    mark("prefill")
    began = time.perf_counter_ns()
    token = int(decoder.prefill([decoder.embed(ids)])[0].argmax())
    filled = time.perf_counter_ns()
    mark("decode")
    for _ in range(work.tokens):
        token = int(decoder.step([token])[0].argmax())
    done = time.perf_counter_ns()
    mark("end")
    found.add("prefill", filled - began)
    found.add("decode", done - filled)
    found.add("total", done - began)
    found.rate("prefill", work.prompt)
    found.rate("decode", work.tokens, step_bytes=bundle_step_bytes(manifest))
    return found


def _operators(opened: Opened, work: Work, mark: Mark) -> Iteration:
    """One click and one video, by operator: a sample is what it took in all of one call of its graph."""
    if not isinstance(opened, Traced):
        raise ValueError("operators are told by a bundle that is opened for that")
    found = Iteration()
    opened.open(_VIDEO)  # again, where an iteration was before this one
    began = time.perf_counter_ns()
    _image(opened, work, mark)
    _video(opened, work, mark)
    found.add("total", time.perf_counter_ns() - began)
    for graph, calls in opened.traces().items():
        names = {name for call in calls for name in call.operators}
        spent = {name: [sum(call.operators.get(name, ())) for call in calls] for name in names}
        spent["rest"] = [call.rest for call in calls]
        found.samples[f"{graph}: all"] = [call.ns for call in calls]
        for name in sorted(spent, key=lambda name: -sum(spent[name])):
            found.samples[f"{graph}: {name}"] = spent[name]
            each = sum(len(call.operators.get(name, ())) for call in calls) / len(calls)
            if each:
                found.figures[f"{graph}: {name}"] = {"calls": each}
    return found


def open_for(task: Task, folder: Path, threads: int) -> Opened:
    """A bundle's manifest, opened for a task. Raises like `Opened`, and UsageError for another engine."""
    return (Traced if task == "operators" else Opened)(folder, threads)
