"""A CPU's kind from what each system tells: the same words for the same kernels."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from pam_edge.core import cpu_kind

AVX2 = "fpu sse4_2 avx fma avx2"
AVX512 = f"{AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("fpu sse4_2", "x86-64: baseline"),
        ("fpu sse4_2 avx", "x86-64: avx"),
        ("fpu avx avx2", "x86-64: avx"),  # the wider kernels want fma too
        (AVX2, "x86-64: avx2"),
        (f"{AVX2} avx_vnni", "x86-64: avx2 vnni"),
        (f"{AVX2} avx512f avx512cd", "x86-64: avx2"),
        (AVX512, "x86-64: avx512"),
        (f"{AVX512} avx512_vnni", "x86-64: avx512 vnni"),
        (f"{AVX512} avx512_vnni avx_vnni amx_tile amx_int8", "x86-64: avx512 vnni amx"),
    ],
)
def test_x86_on_linux(flags: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(
        f"processor\t: 0\nmodel name\t: X\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
    )
    assert cpu_kind.linux_kind("x86-64", cpuinfo=tmp_path / "cpuinfo") == kind


@pytest.mark.parametrize(
    ("features", "kind"),
    [
        ("fp asimd crc32", "aarch64: baseline"),
        ("fp asimd asimddp sve", "aarch64: dotprod"),
        ("fp i8mm asimd bf16 asimddp", "aarch64: dotprod i8mm"),
        ("fp asimd asimddp i8mm sme sme2", "aarch64: dotprod i8mm sme"),
    ],
)
def test_arm_on_linux(features: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nFeatures\t: {features}\nCPU part\t: 0xd08\n")
    assert cpu_kind.linux_kind("aarch64", cpuinfo=tmp_path / "cpuinfo") == kind


def test_arm_where_cpuinfo_is_the_emulating_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t: {AVX2}\n")
    monkeypatch.setattr(cpu_kind, "_auxiliary", lambda: {"asimddp"})
    assert cpu_kind.linux_kind("aarch64", cpuinfo=tmp_path / "cpuinfo") == "aarch64: dotprod"
    monkeypatch.setattr(cpu_kind, "_auxiliary", lambda: None)
    assert cpu_kind.linux_kind("aarch64", cpuinfo=tmp_path / "cpuinfo") is None


def test_no_cpuinfo_is_not_told(tmp_path: Path) -> None:
    assert cpu_kind.linux_kind("x86-64", cpuinfo=tmp_path / "none") is None


def test_mac() -> None:
    m1 = {"hw.optional.arm.FEAT_DotProd"}
    m4 = {f"hw.optional.arm.{name}" for name in ("FEAT_DotProd", "FEAT_I8MM", "FEAT_SME")}
    intel = {f"hw.optional.{name}" for name in ("avx1_0", "avx2_0", "fma")}
    assert cpu_kind.mac_kind("aarch64", m1.__contains__) == "aarch64: dotprod"
    assert cpu_kind.mac_kind("aarch64", m4.__contains__) == "aarch64: dotprod i8mm sme"
    assert cpu_kind.mac_kind("x86-64", intel.__contains__) == "x86-64: avx2"


def test_windows_leaves_vnni_open() -> None:
    assert cpu_kind.windows_kind("x86-64", {39, 40}.__contains__) == "x86-64: avx2 vnni?"
    assert cpu_kind.windows_kind("x86-64", {39, 40, 41}.__contains__) == "x86-64: avx512 vnni?"
    assert cpu_kind.windows_kind("aarch64", {43, 66}.__contains__) == "aarch64: dotprod i8mm"


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's words")
def test_this_cpu_has_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cpu_kind.ENV, raising=False)
    cpu_kind.cpu_kind.cache_clear()
    assert cpu_kind.cpu_kind() is not None
    cpu_kind.cpu_kind.cache_clear()
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert cpu_kind.cpu_kind() is None
    cpu_kind.cpu_kind.cache_clear()


def test_what_engines_see_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_kind.cpu_kind.cache_clear()
    monkeypatch.setenv(cpu_kind.ENV, "x86-64: avx2")
    try:
        assert cpu_kind.cpu_kind() == "x86-64: avx2"
    finally:
        cpu_kind.cpu_kind.cache_clear()
