"""Part `bundle`: what one bundle costs a person: from nothing to a mask, to words, and in memory.

Every sample is a process of its own, its files in the page cache. Resident memory is the kernel's own peak;
how it splits into own pages and mapped files is read every few milliseconds from outside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from pam_edge.benchmarks.machine import Ticks, Watch
from pam_edge.benchmarks.peers.bundles import decoder_bytes, our_side
from pam_edge.benchmarks.peers.job import Job, Subject, Who, figure
from pam_edge.benchmarks.peers.probe import peak
from pam_edge.benchmarks.rows import Row
from pam_edge.bundle import Bundle
from pam_edge.errors import EnvironmentProblem

_EVERY = 0.02  # seconds between looks at memory
_SECONDS = 1800


def subject(job: Job, variant: str) -> Subject:
    """What is measured."""
    return Subject("bundle", variant, {"tasks": "brief", "tokens": str(job.answer_tokens)})


def measure(job: Job, bundle: Bundle) -> list[Row]:
    """Rows of one bundle: stages, memory, size."""
    about, who = subject(job, bundle.manifest.variant.name), our_side(bundle)
    found: list[dict[str, Any]] = []
    watch = Watch()
    try:
        for number in range(job.warmup + job.rounds):
            one = _probe(job, bundle, watch if number >= job.warmup else Watch())
            if number >= job.warmup:
                found.append(one)
            job.tell(f"{about.variant} {who.scheme}: process {number + 1} of {job.warmup + job.rounds}")
    except EnvironmentProblem as e:
        return [figure(job, about, who, measure="whole", error=str(e))]
    load = watch.load()
    rows = []
    for name in found[0]["times"]:
        samples = [one["times"][name] for one in found]
        work, figures = 1.0, {}
        if name in ("decode", "prefill"):
            work = float(found[0][f"{name}_tokens"])  # none is decoded of an answer of one token
            figures = {"tokens_per_s": work / float(np.median(samples)) * 1e9} if work else {}
        if name == "decode" and work:
            figures["gb_per_s"] = figures["tokens_per_s"] * decoder_bytes(bundle) / 1e9
        row = figure(job, about, who, measure=name, samples=samples, work=work, load=load, figures=figures)
        rows.append(row)
    return [*rows, *_memory(job, about, who, bundle, found)]


def _memory(job: Job, about: Subject, who: Who, bundle: Bundle, found: list[dict[str, Any]]) -> list[Row]:
    size = bundle.total_bytes
    rows = [figure(job, about, who, measure="size", samples=[size], unit="bytes")]
    for name, key in (("peak memory", "VmHWM"), ("own pages", "RssAnon"), ("mapped files", "RssFile")):
        samples = [one["peak"][key] for one in found]
        figures = {"of_bundle": float(np.median(samples)) / size}
        rows.append(figure(job, about, who, measure=name, samples=samples, unit="bytes", figures=figures))
    return rows


def _probe(job: Job, bundle: Bundle, watch: Watch) -> dict[str, Any]:
    command = [sys.executable, "-m", "pam_edge.benchmarks.peers.probe", str(bundle.folder)]
    log = job.logs / "bundle.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w+b") as words:
        process = subprocess.Popen(
            [*command, str(job.threads), str(job.answer_tokens)], stdout=subprocess.PIPE, stderr=words
        )
        pids = {os.getpid(), process.pid}
        before, last = Ticks.read(pids), None
        ends, most = time.monotonic() + _SECONDS, {"RssAnon": 0, "RssFile": 0}
        while process.poll() is None:
            last = Ticks.read(pids) or last
            _note(process.pid, most)
            time.sleep(_EVERY)
            if time.monotonic() > ends:
                process.kill()
        watch.note(before, last)
        said, _ = process.communicate()
        words.seek(0)
        if process.returncode != 0:
            why = words.read().decode(errors="replace").strip()[-400:]
            raise EnvironmentProblem(f"one click with {bundle.folder} failed: {why}")
    found: dict[str, Any] = json.loads(said)
    found["peak"] |= most
    return found


def _note(pid: int, most: dict[str, int]) -> None:
    """Keep the most seen of each kind of page."""
    try:
        seen = peak(Path(f"/proc/{pid}/status"))
    except OSError:
        return
    for name in most:
        most[name] = max(most[name], seen.get(name, 0))
