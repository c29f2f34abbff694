"""Part `decoder`: the language model alone, a long prompt and the tokens after it, beside other engines."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np

from pam_edge.benchmarks.competitors import models
from pam_edge.benchmarks.competitors.bundles import bundle_of, decoder_bytes, our_side
from pam_edge.benchmarks.competitors.environments import environment, python
from pam_edge.benchmarks.competitors.job import Command, Job, measure_sides, side_row, worker_side
from pam_edge.benchmarks.competitors.pins import GENAI, LLAMA_CPP, OURS, pin_named
from pam_edge.benchmarks.competitors.ratios import ratios
from pam_edge.benchmarks.competitors.requests import Decode, Load
from pam_edge.benchmarks.harness.iterations import Side
from pam_edge.benchmarks.harness.row_builder import Subject, Who
from pam_edge.benchmarks.harness.rows import Row
from pam_edge.bundle.config import variant_named

PEERS = (LLAMA_CPP, GENAI)
MEASURES = ("prefill", "decode")
GOALS = {(LLAMA_CPP, "prefill"): 1.25, (LLAMA_CPP, "decode"): 1.0}
_HERE = "pam_edge.benchmarks.competitors"


def subject(job: Job, variant: str) -> Subject:
    """What is measured."""
    settings = {"prompt": str(job.prompt), "tokens": str(job.tokens), "rows": "1"}
    return job.subject("decoder", variant, settings)


def measure(job: Job, variant: str, scheme: str) -> list[Row]:
    """Rows of every side, and of our side against each."""
    about = subject(job, variant)
    language = variant_named(variant).language
    tokens = np.random.default_rng(7).integers(0, language.vocab_size, job.prompt).tolist()
    asked = Decode(tokens=tuple(tokens), steps=job.tokens)
    weights: dict[str, int] = {}
    sides = [
        worker_side(
            job,
            Who(name, scheme if name == OURS else "", name),
            partial(_command, job, name, variant, scheme, weights),
            Load(what="decoder"),
            lambda worker: worker.ask(asked),
            log="decoder",
        )
        for name in (OURS, *(peer for peer in PEERS if peer in job.peers))
    ]
    measure_sides(job, sides, warmup=job.warmup)
    rows = [row for side in sides for row in _rows(job, about, side, weights)]
    return [*rows, *ratios(job, about, sides, measures=MEASURES, goals=GOALS)]


def _command(job: Job, name: str, variant: str, scheme: str, weights: dict[str, int]) -> Command:
    """How a side starts; `weights` takes the bytes that a decode step of it reads."""
    language = variant_named(variant).language
    match name:
        case "llama.cpp":
            pin = pin_named(name)
            libraries = next(environment(pin, job.cache).rglob("libllama.v*.so")).parent
            model = models.gguf_model(job, variant)
            weights[name] = model.stat().st_size
            who = Who(name, "Q4_0", name, {"package": pin.packages[0], "kv": "f16 (its default)"})
            words = [sys.executable, "-m", f"{_HERE}.llama_cpp", str(libraries), str(model)]
            return Command(who, [*words, str(job.threads), str(job.prompt + job.tokens)])
        case "onnxruntime-genai":
            pin = pin_named(name)
            home = environment(pin, job.cache)
            folder = models.genai_model(job, variant)
            weights[name] = models.genai_bytes(folder, language)
            who = Who(name, "int4", name, dict(package.split("==") for package in pin.packages))
            return Command(who, [str(python(home)), "-m", f"{_HERE}.genai", str(folder), str(job.threads)])
        case _:
            bundle = bundle_of(job, variant, scheme)
            weights[name] = decoder_bytes(bundle)
            words = [sys.executable, "-m", f"{_HERE}.ours", str(bundle.folder), str(job.threads)]
            return Command(our_side(bundle), words)


def _rows(job: Job, about: Subject, side: Side, weights: dict[str, int]) -> list[Row]:
    rows = []
    for name, work in (("prefill", job.prompt), ("decode", job.tokens)):
        figures: dict[str, float] = {}
        if samples := side.samples.get(name):
            seconds, size = float(np.median(samples)) / 1e9, weights[side.who.side]
            figures = {"tokens_per_s": work / seconds, "weight_bytes": float(size)}
            if name == "decode":
                figures["gb_per_s"] = size * work / seconds / 1e9
        rows.append(side_row(job, about, side, name, work=work, figures=figures))
    return rows
