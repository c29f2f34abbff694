"""The first answer of `make demo`: the packaged bundle's, by the runtime alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(("torch", "onnx", "onnxscript", "safetensors", "av")))  # not to be imported
from pam_edge.benchmarks.demo.__main__ import main
sys.exit(main(["nano", "--first", "--out", sys.argv[1]]))
"""


def test_it_needs_no_torch_and_no_export(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "demo")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "A yellow chair." in done.stdout
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"scene.png", "first.png"}
