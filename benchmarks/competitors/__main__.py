"""Measure speed beside llama.cpp, onnxruntime-genai, PyTorch and OpenVINO, and keep every sample.

    python -m pam_edge.benchmarks.competitors --cache FOLDER [--only decoder,answers,encoder,clicks]

Peers come from the package registries, weights are seeded random ones at full size. Rows that the file holds
already, of the same commit and bundle, are not measured again. On a busy machine nothing is measured.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from pam_edge.benchmarks.competitors import answers, decoder, encoder
from pam_edge.benchmarks.competitors.job import Job
from pam_edge.benchmarks.competitors.pins import GENAI, LLAMA_CPP, OPENVINO, OURS, PYTORCH
from pam_edge.benchmarks.harness.machine import require_idle
from pam_edge.benchmarks.harness.row_builder import Subject, conditions_here
from pam_edge.benchmarks.harness.rows import Row, put_rows, read_rows
from pam_edge.benchmarks.harness.table import markdown
from pam_edge.bundle.config import VisionConfig, variant_named
from pam_edge.core.errors import PamEdgeError, UsageError

PARTS = ("decoder", "answers", "encoder", "clicks")
PEERS = (LLAMA_CPP, GENAI, PYTORCH, OPENVINO)
MADE = ("environments", "models", "bundles", "logs")  # what lies in the cache
RESULTS = Path("benchmarks/results/peers.jsonl")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code (see errors.py)."""
    given = _parser().parse_args(argv)
    try:
        if given.table:
            _print(markdown(read_rows(given.out)))
            return 0
        run(given)
    except PamEdgeError as e:
        print(f"peers: {e}", file=sys.stderr)  # noqa: T201 - a command of its own
        return e.exit_code
    return 0


def run(given: argparse.Namespace) -> None:
    """Every part asked for, its rows written as soon as it is done."""
    parts = _listed(given.only, PARTS, "--only")
    peers = () if given.peers == "none" else _listed(given.peers, PEERS, "--peers")
    if min(given.rounds, given.threads, given.prompt, given.tokens, given.answer_tokens) < 1:
        raise UsageError("--rounds, --threads, --prompt, --tokens and --answer-tokens are at least 1")
    cache = given.cache.resolve()
    if not given.busy:
        require_idle()
    conditions, read = conditions_here(given.threads)
    job = Job(
        conditions=conditions,
        cache=cache,
        bundles=tuple(given.bundle),
        peers=peers,
        threads=given.threads,
        rounds=given.rounds,
        warmup=given.warmup,
        prompt=given.prompt,
        tokens=given.tokens,
        answer_tokens=given.answer_tokens,
        tell=_tell,
    )
    put_rows(given.out, [read])
    for part in parts:
        _part(job, given, part)
    if given.clean:
        for name in MADE:
            shutil.rmtree(cache / name, ignore_errors=True)
    _tell(f"rows are in {given.out}; --table shows them")


def _part(job: Job, given: argparse.Namespace, part: str) -> None:
    peers: tuple[str, ...] = ()
    seen: list[VisionConfig] = []
    for variant in given.variants.split(","):
        vision = variant_named(variant).vision
        if part == "encoder" and vision in seen:
            _tell(f"{part} of {variant}: the same as an earlier variant's")
            continue
        seen.append(vision)
        match part:
            case "decoder":
                about, measure, peers = decoder.subject(job, variant), decoder.measure, decoder.PEERS
            case "encoder":
                about, measure, peers = encoder.subject(job, variant), encoder.measure, encoder.PEERS
            case "answers":
                about, measure, peers = answers.subject(job, variant), answers.measure, (PYTORCH,)
            case _:
                about, measure, peers = answers.click_subject(job, variant), answers.measure_clicks, ()
        sides = [OURS, *(peer for peer in peers if peer in job.peers)]
        if not given.again and is_held(job, read_rows(given.out), about, given.scheme, sides):
            _tell(f"{part} of {variant}: measured before at this commit")
            continue
        _tell(f"{part} of {variant}")
        put_rows(given.out, measure(job, variant, given.scheme))


def is_held(job: Job, rows: Iterable[Row], about: Subject, scheme: str, sides: Iterable[str]) -> bool:
    """Whether there are whole rows of all these sides at this very commit. Changed files are no commit."""
    if job.conditions.dirty:
        return False
    found = {
        row.side
        for row in rows
        if (row.part, row.variant, row.settings) == (about.part, about.variant, dict(about.settings))
        and (row.commit, row.dirty, row.threads) == (job.conditions.commit, False, job.threads)
        and not row.error
        and (row.side != OURS or row.scheme == scheme)
    }
    return set(sides) <= found


def _listed(text: str, known: Iterable[str], option: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    for name in found:
        if name not in known:
            raise UsageError(f"{option} {name!r} is unknown; known: {', '.join(known)}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pam_edge.benchmarks.competitors", description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("out/peers"), help="environments, models, bundles")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of rows, JSON lines")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma between")
    parser.add_argument("--peers", default=",".join(PEERS), help="peers, comma between, or none")
    parser.add_argument("--variants", default="pam-1.5b,pam-3b", help="comma between")
    parser.add_argument("--scheme", default="int4", help="of our bundles")
    parser.add_argument(
        "--bundle", type=Path, action="append", default=[], help="a bundle to use; repeatable"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=1070, help="tokens before the first decoded one")
    parser.add_argument("--tokens", type=int, default=64, help="decoded, part decoder")
    parser.add_argument("--answer-tokens", type=int, default=32, help="of each answer, other parts")
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine too; rows say so")
    parser.add_argument("--again", action="store_true", help="measure what the file holds once more")
    parser.add_argument("--clean", action="store_true", help="remove what was made in the cache afterwards")
    parser.add_argument("--table", action="store_true", help="only print the file's rows as markdown")
    return parser


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command of its own


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a command of its own


if __name__ == "__main__":
    sys.exit(main())
