"""Measure exports: time, memory at the peak, and whether a killed one ends with the same bytes.

    python -m pam_edge.benchmarks.speed.exports [--kills N] [--rows FILE] FOLDER -- --target cpu --weights ...

What follows `--` goes to `pam-edge export`, with FOLDER/whole as its -o. With --kills a second export, into
FOLDER/killed, is killed (SIGKILL) at N drawn moments and started again each time, and every file of it is
then compared with the first one's; a finished bundle in FOLDER/whole is taken as it is. Each export is a line
of the result file. Knows the command line and bundles, no graph.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from pam_edge.benchmarks.harness.machine import Ticks, Watch, this_commit, this_machine
from pam_edge.benchmarks.harness.result_lines import put_lines
from pam_edge.benchmarks.harness.rows import Load, Machine
from pam_edge.bundle.bundle import Bundle, sha256_of
from pam_edge.bundle.manifest import MANIFEST
from pam_edge.core.errors import EnvironmentProblem, PamEdgeError, UsageError

RESULTS = Path("benchmarks/results/exports.jsonl")
PROGRAM = "from pam_edge.cli.app import main; main()"
STATE = "export.json"
_MAXRSS = 1 if platform.system() == "Darwin" else 1024  # bytes of ru_maxrss's unit


class Kill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an export was killed: seconds after it was started, and what was finished by then."""

    after_s: float
    finished: tuple[str, ...]


class ExportRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One export; of a killed one, all its starts together."""

    schema: Literal[1] = 1
    command: str
    variant: str
    scheme: str
    weights: str
    bundle: str  # sha256 in its bundle.json
    bundle_bytes: int
    wall_s: float
    cpu_s: float  # of all its threads: half of it is about what two idle cores would take
    peak_bytes: int  # resident memory, mapped files included
    verified: bool | None  # as its bundle.json says
    kills: tuple[Kill, ...]
    same_bytes: bool | None  # as an export that nobody killed; None where none was
    commit: str
    dirty: bool
    machine: Machine
    load: Load | None
    tools: dict[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        """What a newer line takes the place of."""
        return self.command, self.variant, str(bool(self.kills))


@dataclass(frozen=True)
class Ran:
    """One process from start to end."""

    code: int
    wall_s: float
    cpu_s: float
    peak_bytes: int


def run(arguments: Sequence[str], *, kill_after: float | None = None) -> Ran:
    """`pam-edge export` in a process of its own, killed after so many seconds."""
    clock = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "export", *arguments], stdout=subprocess.DEVNULL
    )
    while kill_after is not None:
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        if time.monotonic() - clock >= kill_after:
            os.kill(process.pid, signal.SIGKILL)  # Popen's would wait for it, and with it go its figures
            break
        time.sleep(0.05)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - clock
    return Ran(process.returncode, wall, used.ru_utime + used.ru_stime, used.ru_maxrss * _MAXRSS)


def export(arguments: Sequence[str], folder: Path) -> ExportRow:
    """Export into `folder`, which is not there yet. Raises EnvironmentProblem where that fails."""
    watch, before = Watch(), Ticks.read([os.getpid()])
    ran = run([*arguments, "-o", str(folder)])
    watch.note(before, Ticks.read([os.getpid()]))
    if ran.code not in (0, 4):
        raise EnvironmentProblem(f"the export ended with code {ran.code}; it says why above")
    return _row(arguments, folder, [ran], kills=(), same=None, load=watch.load())


def killed(arguments: Sequence[str], folder: Path, *, kills: int, like: Path, about_s: float) -> ExportRow:
    """Export into `folder`, killed `kills` times, at moments drawn for an export of about `about_s` seconds.

    `like` is the same bundle, from an export that nobody killed.
    """
    draw = random.Random(kills)
    watch, before = Watch(), Ticks.read([os.getpid()])
    ran: list[Ran] = []
    died: list[Kill] = []
    while len(died) < kills:
        after = draw.uniform(0.03, 1.3 / kills) * about_s
        ran.append(run([*arguments, "-o", str(folder)], kill_after=after))
        if ran[-1].code != -signal.SIGKILL:
            raise EnvironmentProblem(
                f"the export ended with code {ran[-1].code} after {len(died)} of {kills} kills; "
                f"remove {folder} and give fewer"
            )
        died.append(Kill(round(ran[-1].wall_s, 2), _finished(folder)))
        print(f"killed after {died[-1].after_s} s: {len(died[-1].finished)} steps done", flush=True)  # noqa: T201
    ran.append(run([*arguments, "-o", str(folder)]))
    watch.note(before, Ticks.read([os.getpid()]))
    if ran[-1].code not in (0, 4):
        raise EnvironmentProblem(f"the export ended with code {ran[-1].code}; it says why above")
    same = digests(folder) == digests(like)
    return _row(arguments, folder, ran, kills=tuple(died), same=same, load=watch.load())


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file, by name."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def _finished(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(msgspec.json.decode((folder / STATE).read_bytes())["steps"])
    except OSError:  # it had not even begun
        return ()


def _row(
    arguments: Sequence[str],
    folder: Path,
    ran: Sequence[Ran],
    *,
    kills: tuple[Kill, ...],
    same: bool | None,
    load: Load | None,
) -> ExportRow:
    bundle = Bundle.open(folder)
    manifest, (commit, dirty) = bundle.manifest, this_commit()
    checked = manifest.verification
    return ExportRow(
        command=shlex.join(["pam-edge", "export", *arguments]),
        variant=manifest.variant.name,
        scheme=manifest.scheme,
        weights=manifest.weights.source,
        bundle=manifest.sha256,
        bundle_bytes=bundle.total_bytes,
        wall_s=round(sum(each.wall_s for each in ran), 1),
        cpu_s=round(sum(each.cpu_s for each in ran), 1),
        peak_bytes=max(each.peak_bytes for each in ran),
        verified=None if checked is None else checked.ok,
        kills=kills,
        same_bytes=same,
        commit=commit,
        dirty=dirty,
        machine=this_machine(read_bytes_per_s=None),
        load=load,
        tools=manifest.tools,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (see errors.py), 4 where a killed export differs."""
    words = list(sys.argv[1:] if argv is None else argv)
    ours, arguments = (
        (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    )
    parser = argparse.ArgumentParser(prog="exports", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="where bundles go")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument(
        "--about", type=float, help="seconds that an export takes, where the first is not run"
    )
    parser.add_argument("--rows", type=Path, default=RESULTS)
    given = parser.parse_args(ours)
    whole, about = given.folder / "whole", given.about
    try:
        if not arguments:
            raise UsageError("give the export's arguments after --")
        if not (whole / MANIFEST).exists():
            row = export(arguments, whole)
            put_lines(given.rows, [row], ExportRow)
            about = about or row.wall_s
            _tell(row)
        if given.kills:
            if about is None:
                raise UsageError("--about: how many seconds the export into FOLDER/whole took")
            row = killed(arguments, given.folder / "killed", kills=given.kills, like=whole, about_s=about)
            put_lines(given.rows, [row], ExportRow)
            _tell(row)
            return 0 if row.same_bytes else 4
    except PamEdgeError as e:
        print(f"exports: {e}", file=sys.stderr)  # noqa: T201 - a command of its own
        return e.exit_code
    return 0


def _tell(row: ExportRow) -> None:
    same = "" if row.same_bytes is None else f", {len(row.kills)} kills, same bytes: {row.same_bytes}"
    print(  # noqa: T201 - a command of its own
        f"{row.variant} {row.scheme}: {row.wall_s:.0f} s, {row.cpu_s:.0f} s of cores, "
        f"peak {row.peak_bytes / 2**30:.2f} GiB{same}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
