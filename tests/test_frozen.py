"""Files of earlier versions: bundles of every schema, rows of measurements. They open and mean the same.

What is in `frozen/` is never written again; `tools/freeze_bundle.py` adds the bundle of a new schema.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import pam_edge
from pam_edge.benchmarks.harness.rows import read_rows
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import MANIFEST, SCHEMA
from pam_edge.verify.verify import verify

HERE = Path(__file__).parent
FROZEN = HERE / "frozen"
BUNDLES = sorted((FROZEN / "bundles").iterdir())
ROWS = sorted((FROZEN / "rows").glob("*.jsonl"))
PICTURE = HERE / "golden" / "frames" / "00000.png"


def schema_of(folder: Path) -> int:
    found = json.loads((folder / MANIFEST).read_bytes())["schema"]
    assert isinstance(found, int)
    return found


def test_a_bundle_of_every_schema_is_kept() -> None:
    assert sorted({schema_of(folder) for folder in BUNDLES}) == list(range(1, SCHEMA + 1))


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_bundle_of_an_earlier_version_is_right(folder: Path) -> None:
    bundle = Bundle.open(folder)
    found = verify(bundle, threads=1)
    assert len(found.checks) > 15
    assert [check for check in found.checks if not check.ok] == []


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_bundle_of_an_earlier_version_gives_its_mask(folder: Path) -> None:
    """The mask that the version of schema 1 gave, but for what integers of another CPU change."""
    with pam_edge.load(folder, threads=1) as pam:
        result = pam(PICTURE, point=(40, 30))
    recorded = np.unpackbits(np.load(FROZEN / "mask.npy"), count=result.mask.size).reshape(result.mask.shape)
    both = np.logical_and(recorded, result.mask).sum()
    assert both / np.logical_or(recorded, result.mask).sum() > 0.95
    assert result.text


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.name)
def test_rows_of_an_earlier_version_are_read(path: Path) -> None:
    written = [json.loads(line) for line in path.read_bytes().splitlines()]
    found = read_rows(path)
    assert len(found) == len(written) >= 10
    for row, text in zip(found, written, strict=True):
        assert (row.part, row.measure, row.side, list(row.samples)) == (
            text["part"],
            text["measure"],
            text["side"],
            text.get("samples", []),
        )
        assert row.machine.cpu == text["machine"]["cpu"]
