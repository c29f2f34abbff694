"""Install a wheel with the locked runtime in an empty environment outside the checkout, and ask it.

    python tools/try_wheel.py --uv uv --python python3 dist/pam_edge-0.1.0-py3-none-any.whl     # make wheel

Nothing of the checkout is on the path there: what answers is what the wheel holds. Ends with 1 where the
packaged bundle gives no words or no picture.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLICK = "62,40"  # on the largest object of the scene that `demo --first` writes
_FROM = "import pam_edge, pam_edge.export; print(pam_edge.__file__, pam_edge.export.__file__, sep='\\n')"


def main(argv: Sequence[str] | None = None) -> int:
    """Try one wheel; returns 1 where it does not answer."""
    parser = argparse.ArgumentParser(prog="try_wheel", description="Try a wheel in an empty environment.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--uv", default="uv")
    parser.add_argument("--python", default=sys.executable, help="the environment's interpreter")
    given = parser.parse_args(argv)
    uv = str(Path(given.uv).absolute()) if "/" in given.uv else given.uv
    with tempfile.TemporaryDirectory(prefix="pam-edge-wheel-") as folder:
        try:
            words = answers(given.wheel.resolve(), uv, given.python, Path(folder).resolve())
        except (subprocess.CalledProcessError, RuntimeError) as e:
            print(f"the wheel fails in an empty environment: {e}", file=sys.stderr)  # noqa: T201 - a command
            return 1
    print(f"{given.wheel.name} answers in an empty environment: {' '.join(words)}")  # noqa: T201
    return 0


def answers(wheel: Path, uv: str, interpreter: str, place: Path) -> list[str]:
    """What `pam-edge run nano` answers, installed in the empty folder `place`.

    Raises CalledProcessError where a command fails, RuntimeError where the answer is not the wheel's.
    """
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    variables = {key: value for key, value in os.environ.items() if key not in hidden}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=place, env=variables, check=True, text=True, stdout=subprocess.PIPE
        )
        return done.stdout

    venv = place / "venv"
    programs = venv / ("Scripts" if os.name == "nt" else "bin")
    run(uv, "venv", "--python", interpreter, venv)
    run(uv, "pip", "sync", "--python", venv, "--require-hashes", ROOT / "requirements" / "run.txt")
    run(uv, "pip", "install", "--python", venv, "--no-deps", wheel)
    outside = [
        file
        for file in run(programs / "python", "-c", _FROM).splitlines()
        if not Path(file).is_relative_to(venv)
    ]
    if outside:
        raise RuntimeError(f"modules come from {' and '.join(outside)}")
    run(programs / "python", "-m", "pam_edge.benchmarks.demo", "nano", "--first", "--out", ".")
    picture = ("scene.png", "--point", CLICK, "--out", "answer.png")
    said = json.loads(run(programs / "pam-edge", "run", "nano", *picture, "--json"))
    words = [answer["text"] for answer in said["answers"]]
    if not words or not all(words) or not (place / "answer.png").is_file():
        raise RuntimeError(f"no words or no picture: {said}")
    return words


if __name__ == "__main__":
    sys.exit(main())
