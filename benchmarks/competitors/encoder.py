"""Part `encoder`: the image encoder alone, our float32 and quantized graphs beside PyTorch and OpenVINO."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from pam_edge.benchmarks.competitors.bundles import bundle_of, float_encoder, our_side
from pam_edge.benchmarks.competitors.environments import environment, python
from pam_edge.benchmarks.competitors.job import Job, Subject, Who, figure
from pam_edge.benchmarks.competitors.pins import OPENVINO, OURS, PYTORCH, pin_named
from pam_edge.benchmarks.competitors.ratios import ratios
from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.harness.turns import Side, Turn, take_turns
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.core.errors import PamEdgeError

PEERS = (PYTORCH, OPENVINO)
OURS_FLOAT = f"{OURS} fp32"
GOALS = {(PYTORCH, "encode"): 1.6}
_HERE = "pam_edge.benchmarks.competitors"


def subject(job: Job, variant: str) -> Subject:
    """What is measured."""
    return Subject("encoder", variant, {"pictures": "1"})


def measure(job: Job, variant: str, scheme: str) -> list[Row]:
    """Rows of every side, and of our quantized graph against each."""
    about = subject(job, variant)
    rows: list[Row] = []
    whos: dict[str, Who] = {}
    sides: list[Side] = []
    names = [OURS, *([OURS_FLOAT] if scheme != "fp32" else []), *(p for p in PEERS if p in job.peers)]
    with ExitStack() as stack:
        for name in names:
            who = Who(name, scheme if name == OURS else "fp32", name)
            try:
                who, command = _side(job, name, variant, scheme)
                worker = stack.enter_context(Worker(name, command, log=job.logs / f"encoder-{name}.txt"))
                job.tell(f"{name}: loading the image encoder of {variant}")
                said = worker.ask("load")
                worker.rest()
            except PamEdgeError as e:
                rows.append(figure(job, about, who, measure="encode", error=str(e)))
                job.tell(f"{name}: {e}")
                continue
            whos[name] = who.running(said)
            sides.append(Side(name, worker, _turn(worker)))
        take_turns(sides, rounds=job.rounds, warmup=job.warmup, tell=job.tell)
    for side in sides:
        samples = side.samples.get("encode", [])
        rows.append(
            figure(
                job,
                about,
                whos[side.name],
                measure="encode",
                samples=samples,
                load=side.load,
                error=side.error,
            )
        )
    return [*rows, *ratios(job, about, whos, sides, measures=("encode",), goals=GOALS)]


def _side(job: Job, name: str, variant: str, scheme: str) -> tuple[Who, list[str]]:
    match name:
        case "pytorch":
            return Who(name, "fp32", name), [
                *(sys.executable, "-m", f"{_HERE}.pytorch", variant, str(job.threads))
            ]
        case "openvino":
            pin = pin_named(name)
            home = environment(pin, job.cache)
            floats = float_encoder(job, variant)
            graph = floats.path(floats.graph("image_encoder").files[0])
            who = Who(name, "int8", name, dict(package.split("==") for package in pin.packages))
            folder = job.cache / "models" / f"{variant}-openvino-int8"
            command = [str(python(home)), "-m", f"{_HERE}.openvino", str(graph), str(folder)]
            return who, [*command, str(job.threads)]
        case _:
            bundle = float_encoder(job, variant) if name == OURS_FLOAT else bundle_of(job, variant, scheme)
            command = [sys.executable, "-m", f"{_HERE}.ours", str(bundle.folder), str(job.threads)]
            return our_side(bundle, name), command


def _turn(worker: Worker) -> Turn:
    return lambda: worker.ask("encode")
