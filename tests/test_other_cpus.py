"""8-bit products with the kernels of older CPUs: instruction sets hidden, and qemu where it is installed.

ARM64 takes downloads first: `make test-cpus`.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import integer_cases
import pytest

from pam_edge.core.system_info import cpu_features
from tools.cpus import emulated, hide

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="kernels of x86-64, tools of Linux"
)
needs_vnni = pytest.mark.skipif("avx512_vnni" not in (cpu_features() or ()), reason="no VNNI here to hide")
needs_tools = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("gcc", "objdump", "readelf")) or "HIDE_FROM" in os.environ,
    reason="needs gcc and binutils, and a library that is not patched already",
)
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-x86_64-static") is None, reason="needs qemu: apt-get install qemu-user-static"
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    integer_cases.write_cases(folder)
    return folder


@pytest.fixture(scope="module")
def copy() -> Path:
    return hide.prepare(Path.home() / ".cache" / "pam-edge")


def hidden(copy: Path, level: str) -> emulated.Emulated:
    variables = hide.environment(copy, level, base={"PYTHONPATH": str(ROOT)})
    return emulated.Emulated(level, (sys.executable,), variables)


@needs_vnni
@needs_tools
@pytest.mark.parametrize("level", hide.LEVELS)
def test_products_are_exact_without_newer_instructions(cases: Path, copy: Path, level: str) -> None:
    found = emulated.verdicts(hidden(copy, level), cases)
    assert len(found) > 50
    assert [name for name, verdict in found.items() if verdict != "exact"] == []


@needs_vnni
@needs_tools
@pytest.mark.parametrize("level", hide.LEVELS)
def test_the_kernels_without_newer_instructions_saturate_by_themselves(
    cases: Path, copy: Path, level: str
) -> None:
    """Or nothing was hidden, and the test above could not fail."""
    found = emulated.verdicts(hidden(copy, level), cases, "--plain")
    assert sum(verdict == "OFF" for verdict in found.values()) > 10


@needs_tools
def test_other_illegal_instructions_still_end_a_program(copy: Path) -> None:
    crash = "import onnxruntime, os, signal; os.kill(os.getpid(), signal.SIGILL)"
    done = subprocess.run([sys.executable, "-c", crash], env=hide.environment(copy), check=False)
    assert done.returncode == -4


@needs_qemu
@pytest.mark.slow
def test_products_are_exact_on_an_emulated_cpu_with_avx2(cases: Path) -> None:
    found = emulated.verdicts(emulated.haswell(), cases)
    assert len(found) > 50
    assert [name for name, verdict in found.items() if verdict != "exact"] == []


def test_only_code_is_patched() -> None:
    content = b"\x90\x0f\xa2\x90\x0f\xa2"
    assert hide.patched(content, [1]) == b"\x90\x0f\xb9\x90\x0f\xa2"
    with pytest.raises(RuntimeError, match="no cpuid at file offset 0x2"):
        hide.patched(content, [2])


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="neon"):
        hide.environment(Path("copy"), "neon")
