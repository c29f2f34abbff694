"""All sides interleaved, task by task, and the rows that come of it. Knows workers, no engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pam_edge.benchmarks.competitors.bundles import bundle_of, our_side
from pam_edge.benchmarks.competitors.job import Command, Job, worker_side
from pam_edge.benchmarks.competitors.pins import OURS, PYTORCH
from pam_edge.benchmarks.harness.iterations import Tell, interleave, open_sides
from pam_edge.benchmarks.harness.machine import require_idle
from pam_edge.benchmarks.harness.row_builder import Who, conditions_here
from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.paper_claims.outcome import Held, measured, settings, unmeasured
from pam_edge.benchmarks.paper_claims.published import PART, TASKS, Task
from pam_edge.benchmarks.paper_claims.requests import Iterate, Load
from pam_edge.benchmarks.paper_claims.systems import System, as_word, pam_parameters
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import EnvironmentProblem, UsageError, WontFitError
from pam_edge.core.system_info import available_memory, free_disk

Part = Literal["image", "video", "original"]
PARTS: tuple[Part, ...] = ("image", "video", "original")
Sink = Callable[[list[Row]], None]
_HERE = "pam_edge.benchmarks.paper_claims"
_ROOM = 1.3  # of a bundle's bytes: what a side takes at most, weights and activations


@dataclass(frozen=True)
class Ask:
    """What is to be checked. `original` stands for PyTorch beside pictures and clips."""

    cache: Path
    bundle: Path | None  # PAM's; None: exported with random weights into the cache
    variant: str
    scheme: str
    parts: tuple[Part, ...]
    systems: tuple[System, ...]
    threads: int
    tokens: int
    rounds: int
    warmup: int
    busy: bool  # measure on a busy machine too
    clean: bool  # remove each rebuilt system once it is measured


def read_parts(text: str) -> tuple[Part, ...]:
    """Parts, comma between. Raises UsageError for an unknown one."""
    found = []
    for name in text.split(","):
        known = [part for part in PARTS if part == name.strip()]
        if not known:
            raise UsageError(f"--only {name.strip()!r} is unknown; known: {', '.join(PARTS)}")
        found += known
    return tuple(dict.fromkeys(found))


def check(ask: Ask, sink: Sink, tell: Tell) -> None:
    """Measure all that was asked for; rows go to `sink` task by task.

    A side that fails is a row with its reason. Raises EnvironmentProblem on a busy machine, and what making
    PAM's own bundle raises.
    """
    if not ask.busy:
        require_idle()
    job, read = _job(ask, tell)
    sink([read])
    tasks = [task for task in TASKS if task in ask.parts or "original" in ask.parts]
    bundle = _ours(job, ask)
    for task in tasks:
        systems = [s for s in ask.systems if task in s.tasks and task in ask.parts]
        sink(_task(job, ask, bundle, task, systems, sink))
        if ask.clean:
            for system in systems:
                shutil.rmtree(_folder(job, system, bundle.manifest.scheme), ignore_errors=True)


def _ours(job: Job, ask: Ask) -> Bundle:
    """PAM's bundle; whatever is rebuilt is stored as it is."""
    if ask.bundle is None:
        return bundle_of(job, ask.variant, ask.scheme)
    bundle = Bundle.open(ask.bundle, check=False)
    if bundle.manifest.runtime != "onnxruntime":
        raise UsageError(
            f"{ask.bundle} is for {bundle.manifest.runtime}: the other systems are rebuilt for onnxruntime"
        )
    return bundle


def _job(ask: Ask, tell: Tell) -> tuple[Job, Row]:
    conditions, read = conditions_here(ask.threads)
    job = Job(
        conditions=conditions,
        cache=ask.cache.resolve(),
        bundles=() if ask.bundle is None else (ask.bundle,),
        threads=ask.threads,
        rounds=ask.rounds,
        warmup=ask.warmup,
        tell=tell,
    )
    return job, read


def _task(job: Job, ask: Ask, bundle: Bundle, task: Task, systems: Sequence[System], sink: Sink) -> list[Row]:
    """Rows of every side over one task, ours against each, and of what is not measured.

    An iteration may take minutes: what there is goes to `sink` after each, so that an interrupted run keeps
    it.
    """
    about = job.subject(PART, bundle.manifest.variant.name, settings(task, ask.tokens))
    held = {
        name: _held(job, bundle, name, system, task, ask.tokens)
        for name, system in _names(ask, task, systems)
    }
    sides = [one.side for one in held.values()]
    with open_sides(sides, job.tell):
        interleave(
            sides,
            repeat=job.rounds,
            warmup=job.warmup,
            tell=job.tell,
            after_each=lambda: sink(measured(job, about, task, held)),
        )
    missing = unmeasured(job, about, task, ask.systems) if task in ask.parts else []
    return [*measured(job, about, task, held), *missing]


def _names(ask: Ask, task: Task, systems: Sequence[System]) -> list[tuple[str, System | None]]:
    found: list[tuple[str, System | None]] = [(OURS, None), *((s.name, s) for s in systems)]
    if "original" in ask.parts:
        found.append((PYTORCH, None))
    return found


def _held(job: Job, bundle: Bundle, name: str, system: System | None, task: Task, tokens: int) -> Held:
    """A side that is not opened yet; what it weighs is filled in when it is."""

    def command() -> Command:
        parameters = pam_parameters(bundle.manifest.variant)
        if name == PYTORCH:
            variant = bundle.manifest.variant.name
            _require_memory(name, 2 * (parameters or 0))
            held.parameters = parameters
            return Command(who, [sys.executable, "-m", f"{_HERE}.original", variant, str(job.threads)])
        own = bundle if system is None else rebuilt(job, system, bundle.manifest.scheme)
        _require_memory(name, own.total_bytes)
        words = [sys.executable, "-m", f"{_HERE}.side", str(own.folder), str(job.threads)]
        held.size, held.parameters = own.total_bytes, parameters
        if system is not None:
            words.append(as_word(system))
            held.parameters = system.parameters
            if system.tower.focal:
                held.twice = sum(ref.bytes for ref in own.graph("tower").files)
        return Command(our_side(own, name), words)

    who = Who(name, "bfloat16" if name == PYTORCH else bundle.manifest.scheme, name)
    held = Held(
        worker_side(
            job,
            who,
            command,
            Load(task=task),
            lambda worker: worker.ask(Iterate(tokens=tokens)),
            log=f"claims-{task}",
        )
    )
    return held


def rebuilt(job: Job, system: System, scheme: str) -> Bundle:
    """A rebuilt system's bundle, made in the cache where it is not there yet.

    Raises WontFitError where the disk is too small, EnvironmentProblem with the maker's last words.
    """
    folder = _folder(job, system, scheme)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Vision lies there in float32 for a while, whatever the scheme.
        needs = (2 if scheme in ("int4", "int8") else 5) * system.parameters
        free = free_disk(folder.parent)
        if free is not None and free < needs:
            raise WontFitError(
                f"{system.name} takes {needs / 1e9:.1f} GB of disk while it is made, and {free / 1e9:.1f} GB "
                "are "
                "free; choose another --cache"
            )
        job.tell(f"making {folder.name}, random weights")
        command = [sys.executable, "-m", f"{_HERE}.make", as_word(system), str(folder), scheme]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            raise EnvironmentProblem(f"no {system.name} was made: {done.stderr.strip()[-600:]}")
    return Bundle.open(folder, check=False)


def _folder(job: Job, system: System, scheme: str) -> Path:
    return job.cache / PART / f"{system.key}-{scheme}"


def _require_memory(name: str, size: int) -> None:
    free = available_memory()
    if free is not None and free < _ROOM * size:
        raise WontFitError(
            f"{name} takes about {_ROOM * size / 1e9:.1f} GB and {free / 1e9:.1f} GB are free beside the "
            "others: "
            "measure fewer at once (--only, --systems)"
        )
