"""The JSON Schema of rows: `python -m pam_edge.benchmarks.harness.row_schema` writes the file beside it.

It is made of `rows.Row`. A change to that type which other programs could notice takes a higher `schema` and
so another file; files of earlier ones stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pam_edge.benchmarks.harness.rows import Row

VERSION = 2
_HERE = Path(__file__).parent


def schema_file(version: int = VERSION) -> Path:
    """Where the schema of rows of a version lies."""
    return _HERE / f"row-{version}.schema.json"


def current_schema() -> bytes:
    """The schema of rows that are written now, as the bytes of its file."""
    document: dict[str, Any] = msgspec.json.schema(Row)
    document["$defs"]["Row"]["properties"]["schema"] = {"const": VERSION}
    document["$defs"]["Row"]["required"].insert(0, "schema")
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A row of pam-edge bench, schema {VERSION}",
        **document,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


if __name__ == "__main__":
    schema_file().write_bytes(current_schema())
