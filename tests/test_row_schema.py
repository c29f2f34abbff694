"""The JSON Schema of rows: current, and true of every row that is committed or written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # altair brings it (extra report)
import msgspec
import pytest
from test_rows import ROW

from pam_edge.benchmarks.harness.row_schema import VERSION, current_schema, schema_file
from pam_edge.benchmarks.harness.rows import WorkloadId

ROOT = Path(__file__).parents[1]
FILES = [
    *(ROOT / "benchmarks" / "results" / f"{name}.jsonl" for name in ("bench", "claims", "peers")),
    *sorted((ROOT / "tests" / "frozen" / "rows").glob("*.jsonl")),
]


def validator(version: int) -> jsonschema.Draft202012Validator:
    document = json.loads(schema_file(version).read_bytes())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def test_the_file_is_what_the_type_says() -> None:
    told = "run python -m pam_edge.benchmarks.harness.row_schema; raise `schema` if a program could notice"
    assert schema_file().read_bytes() == current_schema(), told
    assert ROW.schema == VERSION


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_committed_rows_are_valid(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert rows
    of = {version: validator(version) for version in {row["schema"] for row in rows}}
    for row in rows:
        of[row["schema"]].validate(row)


def test_rows_of_now_are_valid_and_others_are_not() -> None:
    workload = WorkloadId(name="smoke", version="1.0", sha256="0" * 64)
    for row in (ROW, msgspec.structs.replace(ROW, workload=workload)):
        validator(VERSION).validate(json.loads(msgspec.json.encode(row)))
    wrong: list[dict[str, Any]] = [{"unknown": 1}, {"schema": 1}, {"threads": "2"}, {"machine": None}]
    for change in wrong:
        with pytest.raises(jsonschema.ValidationError):
            validator(VERSION).validate({**json.loads(msgspec.json.encode(ROW)), **change})
