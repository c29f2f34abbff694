"""Install a wheel with the locked runtime in an empty environment, outside any checkout, and ask it (`make wheel`).

    python tools/try_wheel.py --uv uv --python python3 dist/pam_edge-0.1.0-py3-none-any.whl

Nothing of the checkout is on the path there: what answers is what the wheel holds. Ends with 1 where the packaged
bundle gives no words or no picture.
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
CLICK = "62,40"  # on a thing of the scene that `demo --first` draws
_FROM = "import pam_edge, pam_edge.export; print(pam_edge.__file__, pam_edge.export.__file__, sep='\\n')"


def main(argv: Sequence[str] | None = None) -> int:
    """Try one wheel; returns 1 where it does not answer."""
    parser = argparse.ArgumentParser(prog="try_wheel", description="Try a wheel in an empty environment.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--uv", default="uv")
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter that the environment is made of"
    )
    given = parser.parse_args(argv)
    uv = str(Path(given.uv).absolute()) if "/" in given.uv else given.uv
    with tempfile.TemporaryDirectory(prog := "pam-edge-wheel-") as folder:
        return _try(given.wheel.resolve(), uv, given.python, Path(folder) / prog)


def _try(wheel: Path, uv: str, interpreter: str, place: Path) -> int:
    place.mkdir()
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    variables = {key: value for key, value in os.environ.items() if key not in hidden}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=place, env=variables, check=True, text=True, stdout=subprocess.PIPE
        )
        return done.stdout

    venv = place / "venv"
    programs = venv / ("Scripts" if os.name == "nt" else "bin")
    try:
        run(uv, "venv", "--python", interpreter, venv)
        run(uv, "pip", "sync", "--python", venv, "--require-hashes", ROOT / "requirements" / "run.txt")
        run(uv, "pip", "install", "--python", venv, "--no-deps", wheel)
        files = run(programs / "python", "-c", _FROM).split("\n")[:2]
        run(programs / "python", "-m", "pam_edge.benchmarks.demo", "nano", "--first", "--out", ".")
        command = (
            "run",
            "nano",
            "scene.png",
            "--point",
            CLICK,
            "--json",
            "answer.json",
            "--out",
            "answer.png",
        )
        said = run(programs / "pam-edge", *command)
    except subprocess.CalledProcessError as e:
        print(f"the wheel fails in an empty environment: {e}", file=sys.stderr)  # noqa: T201 - a command of its own
        return 1
    outside = [file for file in files if not Path(file).is_relative_to(venv)]
    answered = (place / "answer.png").is_file() and "text" in json.dumps(
        json.loads((place / "answer.json").read_text())
    )
    print(said)  # noqa: T201
    if outside or not answered or not said.strip():
        print(f"no answer, or not of the wheel: {outside}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{wheel.name} answers in an empty environment")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
