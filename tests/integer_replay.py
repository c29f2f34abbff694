"""Run the cases of integer_cases.py in ONNX Runtime and compare them with exact integers.

    python tests/integer_replay.py FOLDER [--plain]

Needs numpy and onnxruntime alone, so that it runs under emulators of other CPUs. With this checkout
on the path, sessions are set up as for bundles, unless `--plain`. A line a case: exact, rounded (off by less
than 1 % of the largest result: KleidiAI on ARM quantizes activations of 4-bit products otherwise, unless told
not to), or OFF, as what saturates is: then it exits 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

ROUNDED = 0.01  # of the largest result
Setup = Callable[[ort.SessionOptions, Path], None]  # of the graph in that file


class Outcome(NamedTuple):
    """One case: how many results differ from the exact ones, and by what part of the largest result."""

    name: str
    wrong: int
    of: int
    worst: float

    @property
    def verdict(self) -> str:
        """exact, rounded or OFF."""
        return "exact" if not self.wrong else "rounded" if self.worst < ROUNDED else "OFF"


def product_options() -> Setup:
    """How pam_edge sets up its sessions; nothing where it cannot be imported."""
    try:
        from pam_edge.runtimes.onnxruntime.integer_products import keep_exact
    except ImportError as e:
        sys.stderr.write(f"without pam_edge's session options ({e})\n")
        return lambda options, graph: None
    return keep_exact


def replay(folder: Path, setup: Setup) -> Iterator[Outcome]:
    """Every case of the folder: all rows in one call, then some alone, as one row has a kernel of its own."""
    for path in sorted(folder.glob("*.onnx")):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        setup(options, path)
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        with np.load(path.with_suffix(".npz")) as held:
            x, wanted, alone = held["x"], held["y"], held["alone"]
        found = [session.run(["y"], {"x": x})[0]]
        found += [session.run(["y"], {"x": x[i : i + 1]})[0] for i in alone]
        exact = [wanted, *(wanted[i : i + 1] for i in alone)]
        apart = np.concatenate([np.abs(a - b).ravel() for a, b in zip(found, exact, strict=True)])
        part = float(apart.max() / np.abs(wanted).max())
        yield Outcome(path.stem, int((apart != 0).sum()), apart.size, part)


def main() -> int:
    """See the module."""
    arguments = [a for a in sys.argv[1:] if a != "--plain"]
    if len(arguments) != 1:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    setup: Setup = (lambda options, graph: None) if "--plain" in sys.argv else product_options()
    off = 0
    for case in replay(Path(arguments[0]), setup):
        off += case.verdict == "OFF"
        how = f" in {case.wrong} of {case.of}, by {case.worst:.2%} at most" if case.wrong else ""
        sys.stdout.write(f"{case.name:40s} {case.verdict}{how}\n")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
