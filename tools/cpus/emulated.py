"""Check 8-bit products, and nano's bundle, on emulated CPUs: `make test-cpus`.

    python tools/cpus/emulated.py [--cpu haswell] [--no-verify]

Each CPU runs under qemu-user: Haswell (AVX2, no AVX-512) with this Python, two kinds of 64-bit ARM (without
and with the dot product) with the runner for phones. On each, tests/integer_replay.py runs the cases of
tests/integer_cases.py, with the session options of bundles and without, and `verify` runs nano's packaged
bundle. Prints a table; exits 1 where a product or a check of nano is off. Results are those of the emulated
CPU's kernels; times say nothing. Needs Debian or Ubuntu: `apt-get install qemu-user-static`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPLAY = ROOT / "tests" / "integer_replay.py"
ARM_ENGINE = "1.27.0"  # the newest of those tried that imports in qemu 7.2: 1.30 to 1.32 crash
HEADER = """| emulated CPU | ONNX Runtime | exact, rounded, off | off without options | nano's `verify` |
|---|---|---|---|---|"""

# Prints the engine's version and every check of the packaged nano. Without typer, which the runner lacks.
_VERIFY = """
import json, onnxruntime
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.builtin import BUNDLE
from pam_edge.verify.verify import verify
checks = verify(Bundle.open(BUNDLE), threads=1).checks
found = [[c.graph, c.measure, c.worst, c.limit, c.ok] for c in checks]
print(json.dumps({"onnxruntime": onnxruntime.__version__, "checks": found}))
"""


@dataclass(frozen=True)
class Emulated:
    """One CPU: its name in the table, and how a Python starts there."""

    name: str
    python: tuple[str, ...]
    variables: Mapping[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run this CPU's Python with this checkout on its path. Raises RuntimeError where it crashes."""
        done = subprocess.run(
            [*self.python, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.variables},
        )
        if done.returncode not in (0, 1) or "Traceback" in done.stderr:
            raise RuntimeError(f"{self.name}: exit code {done.returncode}: {done.stderr.strip()[-800:]}")
        return done


def haswell() -> Emulated:
    """x86-64 with AVX2 and nothing newer, with this Python. Raises RuntimeError without qemu."""
    command = (_qemu("x86_64"), "-cpu", "Haswell-v4", sys.executable)
    variables = {"PYTHONPATH": str(ROOT), "PAM_EDGE_CPU_KIND": "x86-64: avx2"}
    return Emulated("x86-64, AVX2 (`Haswell-v4`)", command, variables)


def arm(cpu: str, note: str, runner: Path) -> Emulated:
    """64-bit ARM with the runner's Python (benchmarks/devices/arm64.py). Raises RuntimeError without qemu."""
    root = runner / "root"
    libraries = f"{root}/lib/aarch64-linux-gnu:{root}/usr/lib/aarch64-linux-gnu"
    loader = str(root / "lib" / "aarch64-linux-gnu" / "ld-linux-aarch64.so.1")
    python = str(next((root / "usr" / "bin").glob("python3.*")))
    command = (_qemu("aarch64"), "-cpu", cpu, loader, "--library-path", libraries, python)
    variables = {
        "PYTHONHOME": str(root / "usr"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{runner / 'site'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Emulated(f"ARM64, {note} (`{cpu}`)", command, variables)


def verdicts(cpu: Emulated, cases: Path, *options: str) -> dict[str, str]:
    """What becomes of each case there: exact, rounded or OFF. Raises RuntimeError where none ran."""
    lines = cpu.run(str(REPLAY), str(cases), *options).stdout.splitlines()
    found = {line.split()[0]: line.split()[1] for line in lines}
    if not found:
        raise RuntimeError(f"{cpu.name}: no case ran")
    return found


def _qemu(machine: str) -> str:
    found = shutil.which(f"qemu-{machine}-static")
    if found is None:
        raise RuntimeError(f"qemu-{machine}-static is missing: apt-get install qemu-user-static")
    return found


def _runner() -> Path:
    """The runner for phones with an engine that works in the emulator, made once."""
    from pam_edge.benchmarks.devices.arm64 import make

    cache = Path.home() / ".cache" / "pam-edge"
    made = cache / f"arm64-runner-{ARM_ENGINE}"
    if not made.exists():
        make(made, python=(3, 11), versions={"onnxruntime": ARM_ENGINE}, cache=cache)
    return made


def _cpu(name: str) -> Emulated:
    if name == "haswell":
        return haswell()
    note = "no dot product" if name == "cortex-a53" else "dot product, i8mm"
    return arm(name, note, _runner())


def _row(cpu: Emulated, cases: Path, *, nano: bool) -> tuple[str, bool]:
    """The table's row, and whether all is well."""
    found, plain = verdicts(cpu, cases), verdicts(cpu, cases, "--plain")
    counts = [list(found.values()).count(word) for word in ("exact", "rounded", "OFF")]
    for name, verdict in found.items():
        if verdict == "OFF":
            sys.stderr.write(f"{cpu.name}: {name} is off\n")
    script = _VERIFY if nano else 'print(\'{"onnxruntime": "not asked", "checks": []}\')'
    told = json.loads(cpu.run("-c", script).stdout)
    off = [check for check in told["checks"] if not check[-1]]
    for graph, measure, worst, limit, _ in off:
        sys.stderr.write(f"{cpu.name}: nano, {graph}: {measure} {worst:.3g}, limit {limit:g}\n")
    marks = {f"{graph} {measure}": worst for graph, measure, worst, _, _ in told["checks"]}
    shown = [
        f"{short} {marks[key]:.3g}"
        for key, short in (
            ("image_encoder image_embed: noise", "encoder's noise"),
            ("decoder logits: noise", "logits'"),
            ("answer masks: 1 - IoU", "1 - IoU"),
        )
        if key in marks
    ]
    verdict = ", ".join(["off" if off else "ok", *shown]) if nano else "not run"
    lost = list(plain.values()).count("OFF")
    row = (
        f"| {cpu.name} | {told['onnxruntime']} | {counts[0]}, {counts[1]}, {counts[2]} | {lost} | {verdict} |"
    )
    return row, counts[2] == 0 and not off


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    known = ("haswell", "cortex-a53", "max")
    parser = argparse.ArgumentParser(prog="emulated.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--cpu", choices=known, action="append", help="one of them; default: all")
    parser.add_argument("--no-verify", action="store_true", help="products alone, in seconds")
    given = parser.parse_args(argv)
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        try:
            command = [sys.executable, str(REPLAY.with_name("integer_cases.py")), folder]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
            sys.stdout.write(HEADER + "\n")
            for name in given.cpu or known:
                row, ok = _row(_cpu(name), Path(folder), nano=not given.no_verify)
                fine = fine and ok
                sys.stdout.write(row + "\n")
                sys.stdout.flush()
        except (RuntimeError, subprocess.CalledProcessError) as e:
            sys.stderr.write(f"emulated.py: {e}\n")
            return 1
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
