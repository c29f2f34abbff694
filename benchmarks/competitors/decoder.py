"""Part `decoder`: the language model alone, a long prompt and the tokens after it, beside other engines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from pam_edge.benchmarks.competitors import models
from pam_edge.benchmarks.competitors.bundles import bundle_of, decoder_bytes, our_side
from pam_edge.benchmarks.competitors.environments import environment, python
from pam_edge.benchmarks.competitors.job import Job, Subject, Who, figure
from pam_edge.benchmarks.competitors.pins import GENAI, LLAMA_CPP, OURS, pin_named
from pam_edge.benchmarks.competitors.ratios import ratios
from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.harness.turns import Side, take_turns
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.bundle.config import variant_named
from pam_edge.core.errors import PamEdgeError

PEERS = (LLAMA_CPP, GENAI)
MEASURES = ("prefill", "decode")
GOALS = {(LLAMA_CPP, "prefill"): 1.25, (LLAMA_CPP, "decode"): 1.0}
_HERE = "pam_edge.benchmarks.competitors"


def subject(job: Job, variant: str) -> Subject:
    """What is measured."""
    settings = {"prompt": str(job.prompt), "tokens": str(job.tokens), "rows": "1"}
    return Subject("decoder", variant, settings)


def measure(job: Job, variant: str, scheme: str) -> list[Row]:
    """Rows of every side, and of our side against each."""
    about = subject(job, variant)
    language = variant_named(variant).language
    rows: list[Row] = []
    whos: dict[str, Who] = {}
    weights: dict[str, int] = {}
    sides: list[Side] = []
    tokens = np.random.default_rng(7).integers(0, language.vocab_size, job.prompt).tolist()
    with ExitStack() as stack:
        for name in (OURS, *(peer for peer in PEERS if peer in job.peers)):
            who = Who(name, scheme if name == OURS else "", name)
            try:
                who, command, size = _side(job, name, variant, scheme)
                worker = stack.enter_context(Worker(name, command, log=job.logs / f"decoder-{name}.txt"))
                job.tell(f"{name}: loading {variant}")
                said = worker.ask("load", {"decoder": True})
                worker.rest()
            except PamEdgeError as e:
                rows += [figure(job, about, who, measure=m, error=str(e)) for m in MEASURES]
                job.tell(f"{name}: {e}")
                continue
            whos[name], weights[name] = who.running(said), size
            sides.append(Side(name, worker, _turn(worker, tokens, job.tokens)))
        take_turns(sides, rounds=job.rounds, warmup=job.warmup, tell=job.tell)
    rows += [row for side in sides for row in _rows(job, about, whos[side.name], side, weights[side.name])]
    return [*rows, *ratios(job, about, whos, sides, measures=MEASURES, goals=GOALS)]


def _side(job: Job, name: str, variant: str, scheme: str) -> tuple[Who, list[str], int]:
    """Whose it is, the command of its worker, and the bytes of weights a decode step of it reads."""
    language = variant_named(variant).language
    match name:
        case "llama.cpp":
            pin = pin_named(name)
            libraries = next(environment(pin, job.cache).rglob("libllama.v*.so")).parent
            model = models.gguf_model(job, variant)
            who = Who(name, "Q4_0", name, {"package": pin.packages[0], "kv": "f16 (its default)"})
            command = [sys.executable, "-m", f"{_HERE}.llama_cpp", str(libraries), str(model)]
            return who, [*command, str(job.threads), str(job.prompt + job.tokens)], model.stat().st_size
        case "onnxruntime-genai":
            pin = pin_named(name)
            home = environment(pin, job.cache)
            folder = models.genai_model(job, variant)
            who = Who(name, "int4", name, dict(package.split("==") for package in pin.packages))
            command = [str(python(home)), "-m", f"{_HERE}.genai", str(folder), str(job.threads)]
            return who, command, models.genai_bytes(folder, language)
        case _:
            bundle = bundle_of(job, variant, scheme)
            command = [sys.executable, "-m", f"{_HERE}.ours", str(bundle.folder), str(job.threads)]
            return our_side(bundle), command, decoder_bytes(bundle)


def _turn(worker: Worker, tokens: Sequence[int], steps: int) -> Any:
    return lambda: worker.ask("turn", {"tokens": list(tokens), "steps": steps})


def _rows(job: Job, about: Subject, who: Who, side: Side, weights: int) -> list[Row]:
    rows = []
    for name, work in (("prefill", job.prompt), ("decode", job.tokens)):
        samples = side.samples.get(name, [])
        figures: dict[str, float] = {}
        if samples:
            seconds = float(np.median(samples)) / 1e9
            figures = {"tokens_per_s": work / seconds, "weight_bytes": float(weights)}
            if name == "decode":
                figures["gb_per_s"] = weights * work / seconds / 1e9
        rows.append(
            figure(
                job, about, who, measure=name, samples=samples, work=work, load=side.load, figures=figures,
                error=side.error,
            )
        )  # fmt: skip
    return rows
