"""Keep the generated blocks of README.md and docs/ true: rewrites them; with `--check` only compares.

A block stands between `<!-- begin: COMMAND -->` and `<!-- end -->`; it holds what the command prints, as
a code block. Commands are ours alone: they run in process, through the command line's own entry. A block of
`<!-- begin: table schemes -->` holds the table of variants and schemes, made from committed rows.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
_TABLE = re.compile(r"<!-- begin: table schemes -->\n.*?<!-- end -->", re.DOTALL)
_BLOCK = re.compile(r"<!-- begin: pam-edge (?P<words>[^>]*?) -->\n.*?<!-- end -->", re.DOTALL)


def documents() -> list[Path]:
    """README.md, the documents beside it, and every page of docs/."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def rendered(text: str) -> str:
    """The document with every block as its command prints it today."""
    from pam_edge.benchmarks.quality.schemes_table import main as table
    from pam_edge.cli.app import app

    def block(match: re.Match[str]) -> str:
        words = match["words"]
        runner = CliRunner(env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"})
        result = runner.invoke(app, words.split(), prog_name="pam-edge")
        if result.exit_code != 0:
            raise SystemExit(f"pam-edge {words} failed: {result.output}")
        lines = "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())
        return f"<!-- begin: pam-edge {words} -->\n```text\n{lines}\n```\n<!-- end -->"

    def schemes(_: re.Match[str]) -> str:
        return f"<!-- begin: table schemes -->\n\n{table()}\n\n<!-- end -->"

    return _TABLE.sub(schemes, _BLOCK.sub(block, text))


def main() -> int:
    """Rewrite, or with --check compare; returns 1 where a document is stale."""
    stale = False
    for path in documents():
        text = path.read_text(encoding="utf-8")
        wanted = rendered(text)
        stale = stale or wanted != text
        if wanted != text and "--check" not in sys.argv[1:]:
            path.write_text(wanted, encoding="utf-8", newline="\n")
    return int(stale and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
