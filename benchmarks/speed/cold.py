"""The first click from cold: each iteration is a process of its own, which opens a bundle and answers once.

`python -m pam_edge.benchmarks.speed.cold BUNDLE` prints one JSON object: medians in milliseconds and MB
without and with the optimized copies of graphs in the cache folder, side by side, and each round's ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from pam_edge.benchmarks.harness.scene import clicks, picture
from pam_edge.core.user_cache import ENV
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.pam import load
from pam_edge.runtimes.common.registry import check_engine

_TIMES = ("open", "first mask", "answer")


def once(bundle: str, *, threads: int, tokens: int) -> dict[str, float]:
    """What a click takes in this process, which must be a fresh one: `open` is what the click waited for
    graphs, `first mask` and `answer` are since the bundle was opened. Milliseconds, and the peak in MB.
    """
    image, (point, *_) = picture(), clicks(1)
    pam = load(bundle, threads=threads, check=False)
    check_engine(pam.bundle.manifest.runtime)  # importing it is no opening of graphs
    began = time.perf_counter()
    seen = pam.look(image)
    pam.open_ahead("perceiver", "decoder")
    region = pam.segment(seen, Prompt(points=((*point, 1),)))
    masked = time.perf_counter()
    description = pam.describe(region, ["brief"], max_tokens=tokens)
    for _ in description:
        pass
    return {
        "open": region.timing_ms["load"] + description.timing_ms["load"],
        "first mask": (masked - began) * 1e3,
        "answer": (time.perf_counter() - began) * 1e3,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def compare(bundle: str, *, rounds: int, threads: int, tokens: int) -> dict[str, object]:
    """Both sides in turns, after one round that does not count: it fills the cache and the system's."""
    found: dict[str, list[Mapping[str, float]]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        blocked = Path(folder) / "file"
        blocked.touch()
        caches = {"without": blocked / "cache", "with": Path(folder) / "cache"}
        for number in range(rounds + 1):
            for side, rows in found.items():
                row = _process(bundle, caches[side], threads=threads, tokens=tokens)
                if number:
                    rows.append(row)
    return {
        "bundle": Path(bundle).name,
        "rounds": rounds,
        **{side: {k: statistics.median(r[k] for r in rows) for k in rows[0]} for side, rows in found.items()},
        "ratios": {
            name: sorted(a[name] / b[name] for a, b in zip(*found.values(), strict=True)) for name in _TIMES
        },
    }


def _process(bundle: str, cache: Path, *, threads: int, tokens: int) -> dict[str, float]:
    arguments = ["--once", "--threads", str(threads), "--tokens", str(tokens), bundle]
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, *arguments],
        env={**os.environ, ENV: str(cache)},
        stdout=subprocess.PIPE,
        check=True,
    )
    row: dict[str, float] = json.loads(done.stdout)
    return row


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--once", action="store_true", help="only once, in this process")
    given = parser.parse_args()
    work = {"threads": given.threads, "tokens": given.tokens}
    row = once(given.bundle, **work) if given.once else compare(given.bundle, rounds=given.rounds, **work)
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
