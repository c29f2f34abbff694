"""A skip fails where it must: in CI, unless the machine can never run the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from allowed_skips import ALLOWED

TESTS = Path(__file__).parent
ONE = "import pytest\n\ndef test_it():\n    pytest.skip({reason!r})\n"
FILE = "import pytest\n\npytest.skip({reason!r}, allow_module_level=True)\n"
XFAIL = "import pytest\n\n@pytest.mark.xfail(reason={reason!r})\ndef test_it():\n    raise AssertionError\n"


def run(folder: Path, source: str, reason: str, **variables: str) -> tuple[int, str]:
    """Exit code and words of pytest on one file."""
    (folder / "test_one.py").write_text(source.format(reason=reason))
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "PAM_EDGE_NO_SKIP")}
    path = os.pathsep.join((str(TESTS), str(TESTS.parent)))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no_skips",
        "-p",
        "no:cacheprovider",
        "test_one.py",
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("source", [ONE, FILE])
@pytest.mark.parametrize("variable", ["CI", "PAM_EDGE_NO_SKIP"])
def test_a_skip_in_ci_fails_and_says_why(tmp_path: Path, source: str, variable: str) -> None:
    code, said = run(tmp_path, source, "needs adb", **{variable: "1"})
    assert code in (1, 2) and "is skipped, which fails here" in said and "needs adb" in said


@pytest.mark.parametrize("source", [ONE, FILE])
def test_elsewhere_it_stays_a_skip(tmp_path: Path, source: str) -> None:
    for variables in ({}, {"CI": "true", "PAM_EDGE_NO_SKIP": "0"}):
        code, said = run(tmp_path, source, "needs adb", **variables)
        assert code in (0, 5) and "1 skipped" in said


def test_an_expected_failure_is_none(tmp_path: Path) -> None:
    code, said = run(tmp_path, XFAIL, "known", CI="1")
    assert code == 0 and "1 xfailed" in said


def test_what_a_machine_can_never_run_stays_a_skip(tmp_path: Path) -> None:
    code, said = run(tmp_path, ONE, "no VNNI here to hide", CI="1", HIDE_FROM="x")
    assert code == 0 and "1 skipped" in said


def test_every_allowed_reason_is_a_test_s() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8") for path in TESTS.glob("*.py") if "skips" not in path.stem
    )
    for skip in ALLOWED:
        module = skip.reason.removeprefix("could not import ").strip("'")
        assert skip.reason in sources or f'importorskip("{module}")' in sources, skip.reason
