"""Part `encoder`: the image encoder alone, our float32 and quantized graphs beside PyTorch and OpenVINO."""

from __future__ import annotations

import sys
from functools import partial

from pam_edge.benchmarks.competitors.bundles import bundle_of, float_encoder, our_side
from pam_edge.benchmarks.competitors.environments import environment, python
from pam_edge.benchmarks.competitors.job import Command, Job, measure_sides, side_row, worker_side
from pam_edge.benchmarks.competitors.pins import OPENVINO, OURS, PYTORCH, pin_named
from pam_edge.benchmarks.competitors.ratios import ratios
from pam_edge.benchmarks.competitors.requests import Encode, Load
from pam_edge.benchmarks.harness.row_builder import Subject, Who
from pam_edge.benchmarks.harness.rows import Row

PEERS = (PYTORCH, OPENVINO)
OURS_FLOAT = f"{OURS} fp32"
GOALS = {(PYTORCH, "encode"): 1.6}
_HERE = "pam_edge.benchmarks.competitors"


def subject(job: Job, variant: str) -> Subject:
    """What is measured."""
    return job.subject("encoder", variant, {"pictures": "1"})


def measure(job: Job, variant: str, scheme: str) -> list[Row]:
    """Rows of every side, and of our quantized graph against each."""
    about = subject(job, variant)
    names = [OURS, *([OURS_FLOAT] if scheme != "fp32" else []), *(p for p in PEERS if p in job.peers)]
    sides = [
        worker_side(
            job,
            Who(name, scheme if name == OURS else "fp32", name),
            partial(_command, job, name, variant, scheme),
            Load(what="encoder"),
            lambda worker: worker.ask(Encode()),
            log="encoder",
        )
        for name in names
    ]
    measure_sides(job, sides, warmup=job.warmup)
    rows = [side_row(job, about, side, "encode") for side in sides]
    return [*rows, *ratios(job, about, sides, measures=("encode",), goals=GOALS)]


def _command(job: Job, name: str, variant: str, scheme: str) -> Command:
    match name:
        case "pytorch":
            words = [sys.executable, "-m", f"{_HERE}.pytorch", variant, str(job.threads)]
            return Command(Who(name, "fp32", name), words)
        case "openvino":
            pin = pin_named(name)
            home = environment(pin, job.cache)
            floats = float_encoder(job, variant)
            graph = floats.path(floats.graph("image_encoder").files[0])
            who = Who(name, "int8", name, dict(package.split("==") for package in pin.packages))
            folder = job.cache / "models" / f"{variant}-openvino-int8"
            words = [str(python(home)), "-m", f"{_HERE}.openvino", str(graph), str(folder)]
            return Command(who, [*words, str(job.threads)])
        case _:
            bundle = float_encoder(job, variant) if name == OURS_FLOAT else bundle_of(job, variant, scheme)
            words = [sys.executable, "-m", f"{_HERE}.ours", str(bundle.folder), str(job.threads)]
            return Command(our_side(bundle, name), words)
