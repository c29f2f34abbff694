"""`pam-edge bench --workload`: files that are read strictly, and rows that name them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from command import pam_edge, refused

from pam_edge.benchmarks.harness.rows import read_rows
from pam_edge.benchmarks.speed.plan import Axes
from pam_edge.benchmarks.speed.workload import FOLDER, read_workload
from pam_edge.core.errors import UsageError

SMOKE = {
    "schema": 1,
    "name": "mine",
    "version": "1.0",
    "about": "One token after a prompt.",
    "repeat": 1,
    "warmup": 0,
    "parts": [{"task": "decode", "prompt": [4, 8], "tokens": [2]}],
}


def written(folder: Path, **changed: Any) -> Path:
    path = folder / "mine.json"
    path.write_text(json.dumps({name: value for name, value in {**SMOKE, **changed}.items() if value != ""}))
    return path


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_packaged_workloads_are_named_as_they_say(path: Path) -> None:
    workload, known = read_workload(path.stem)
    assert path.name == f"{workload.name}-{workload.version}.json"
    assert known.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (known.name, known.version) == (workload.name, workload.version)


def test_published_workloads_are_never_changed() -> None:
    digest = hashlib.sha256((FOLDER / "smoke-1.0.json").read_bytes()).hexdigest()
    assert digest == "0d0d0442c90379ffc879b04ebd652973e5602dba3cd9f5a9a5f7d094e40de1c2", "make a new version"


def test_parts_become_axes(tmp_path: Path) -> None:
    (part,) = read_workload(str(written(tmp_path)))[0].parts
    assert part.axes((2,)) == Axes(prompt=(4, 8), tokens=(2,), threads=(2,))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"unknown": 1}, "unknown field `unknown`"),
        ({"schema": 2}, "Invalid enum value 2 - at `$.schema`"),
        ({"name": ""}, "missing required field `name`"),
        ({"version": "one"}, "`$.version`"),
        ({"repeat": 0}, "`$.repeat`"),
        ({"parts": []}, "`$.parts`"),
        ({"parts": [{"task": "sound"}]}, "Invalid enum value 'sound'"),
        ({"parts": [{"task": "decode", "prompt": [4]}]}, "task decode takes prompt, tokens, not prompt"),
        (
            {"parts": [{"task": "decode", "prompt": [4], "tokens": [2], "clicks": [1]}]},
            "takes prompt, tokens",
        ),
        ({"parts": [{"task": "decode", "prompt": [0], "tokens": [2]}]}, "`$.parts[0].prompt[0]`"),
        ({"parts": [{"task": "decode", "prompt": [4], "tokens": [], "x": 1}]}, "mine.json is no workload"),
    ],
)
def test_files_that_say_something_else_are_refused(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as e:
        read_workload(str(written(tmp_path, **changed)))
    assert said in str(e.value)


def test_a_workload_says_alone_what_is_measured(tmp_path: Path) -> None:
    words = ["bench", "nano", "--workload", written(tmp_path)]
    refused(pam_edge(*words, "--tokens", "32"), 2, "--workload says what is measured: leave --tokens out")
    refused(pam_edge(*words, "-r", "5"), 2, "leave --repeat out")
    refused(
        pam_edge("bench", "nano", "--workload", "nothing"),
        2,
        "neither a file nor one of: smoke-1.0",
    )


def test_rows_name_their_workload(tmp_path: Path) -> None:
    path, out = written(tmp_path), tmp_path / "rows.jsonl"
    words = ["--threads", "1", "-o", "jsonl", "--out", out]
    result = pam_edge("bench", "nano", "--workload", path, *words)
    assert result.code == 0, result.err
    rows = read_rows(out)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert {(row.schema, row.workload and row.workload.sha256) for row in rows} == {(2, digest)}
    prompts = [row.settings["prompt"] for row in rows if row.measure == "decode"]
    assert prompts == ["4", "8"] and all(len(row.samples) == 1 for row in rows if row.measure == "decode")
    # The same work by options is a row of its own beside it.
    options = ["--task", "decode", "--prompt", "4", "--tokens", "2", "-r", "2", "--warmup", "0"]
    assert pam_edge("bench", "run", "nano", *options, *words).code == 0
    decoded = [row for row in read_rows(out) if row.measure == "decode"]
    found = [row.workload for row in decoded if row.settings["prompt"] == "4"]
    assert found == [rows[0].workload, None]
