"""The table of schemes shows committed rows, each in its cell, and says where none is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pam_edge.benchmarks.harness.result_lines import put_lines, read_lines
from pam_edge.benchmarks.harness.rows import Machine, Row, put_rows, read_rows, stats
from pam_edge.benchmarks.quality import schemes
from pam_edge.benchmarks.quality.report import Report
from pam_edge.benchmarks.quality.schemes import Accuracy, points_lost
from pam_edge.benchmarks.quality.schemes_table import NONE, main, table
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import IntegrityError

FLOAT = Accuracy(
    variant="nano",
    scheme="fp16",
    bundle="0" * 64,
    bundle_bytes=8_200_000,
    world=41,
    scenes=60,
    objects=351,
    click_iou=0.84,
    box_iou=0.90,
    category=0.85,
    host="",
    tools={},
)
INT8 = msgspec.structs.replace(FLOAT, scheme="int8", click_iou=0.838, category=0.854, bundle_bytes=5_600_000)
MACHINE = Machine(
    device="local",
    cpu=None,
    cores=2,
    memory_bytes=None,
    free_bytes=None,
    system="",
    python="",
    features=(),
    read_bytes_per_s=None,
)


def row(measure: str, *samples: int, scheme: str = "int4", **figures: float) -> Row:
    return Row(
        part="bundle",
        measure=measure,
        side="pam-edge",
        variant="pam-1.5b",
        scheme=scheme,
        runtime="onnxruntime",
        versions={},
        commit="",
        dirty=False,
        bundle="",
        machine=MACHINE,
        threads=2,
        settings={},
        samples=samples,
        stats=stats(samples),
        figures=figures,
    )


def cells(text: str, variant: str, scheme: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {variant} | {scheme} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][2:]


def test_every_row_is_in_its_cell(tmp_path: Path) -> None:
    rows = [
        row("size", 1_200_000_000),
        row("peak memory", 1_500_000_000),
        row("encode", 4_000_000_000, 4_200_000_000, 9_000_000_000),
        row("first token", 11_500_000_000),
        row("decode", 1, tokens_per_s=21.25),
    ]
    put_rows(tmp_path / "peers.jsonl", rows)
    text = table(read_rows(tmp_path / "peers.jsonl"), [])
    assert cells(text, "pam-1.5b", "int4") == ["1200", "1500", "4.20", "11.50", "21.2", "untrained here"]
    assert cells(text, "pam-1.5b", "int8")[:5] == [NONE] * 5


def test_accuracy_is_points_against_float_on_the_same_scenes() -> None:
    text = table([], [FLOAT, INT8])
    assert cells(text, "nano", "fp16") == ["8.2", *[NONE] * 4, "the reference"]
    assert cells(text, "nano", "int8")[-1] == "click -0.2, box +0.0, category +0.4 (60 scenes)"
    other = msgspec.structs.replace(INT8, scenes=500)
    assert cells(table([], [FLOAT, other]), "nano", "int8")[-1] == NONE
    with pytest.raises(ValueError, match="different scenes"):
        points_lost(other, FLOAT)


def test_a_newer_line_takes_an_older_one_s_place(tmp_path: Path) -> None:
    path = tmp_path / "schemes.jsonl"
    put_lines(path, [FLOAT, INT8], Accuracy)
    put_lines(path, [msgspec.structs.replace(INT8, click_iou=0.5)], Accuracy)
    assert [line.click_iou for line in read_lines(path, Accuracy)] == [0.84, 0.5]
    path.write_text('{"schema": 2}\n')
    with pytest.raises(IntegrityError, match=r"schemes\.jsonl"):
        read_lines(path, Accuracy)


def test_bundles_are_measured_by_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command around a real evaluation's report, which takes too long here."""
    found = Path(schemes.__file__).resolve().parents[1] / "results" / "nano-world-271208-random.json"
    report = msgspec.json.decode(found.read_bytes(), type=Report)
    monkeypatch.setattr(schemes, "evaluate", lambda pam, source, *, langs: report)
    out = tmp_path / "schemes.jsonl"
    assert schemes.main(["nano", "--world", "271208", "--n", "500", "--out", str(out)]) == 0
    (line,) = read_lines(out, Accuracy)
    assert (line.variant, line.scheme, line.scenes) == ("nano", Bundle.open("nano").manifest.scheme, 500)
    assert line.click_iou == pytest.approx(report.click_iou.value, abs=1e-5)
    assert line.objects == report.cases
    assert schemes.main([str(tmp_path / "none"), "--out", str(out)]) == 2


def test_the_committed_rows_make_a_table() -> None:
    assert main().count("\n") == 1 + 3 * 4
