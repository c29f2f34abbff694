"""Keep the generated blocks of README.md true: rewrites them; with `--check` only compares.

A block stands between `<!-- begin: COMMAND -->` and `<!-- end -->`; it holds what the command prints, as
a code block. Commands are ours alone: they run in process, through the command line's own entry. A block of
`<!-- begin: table schemes -->` holds the table of variants and schemes, made from committed rows.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from typer.testing import CliRunner

README = Path(__file__).parents[1] / "README.md"
_TABLE = re.compile(r"<!-- begin: table schemes -->\n.*?<!-- end -->", re.DOTALL)
_BLOCK = re.compile(r"<!-- begin: pam-edge (?P<words>[^>]*?) -->\n.*?<!-- end -->", re.DOTALL)


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

    schemes = f"<!-- begin: table schemes -->\n\n{table()}\n\n<!-- end -->"
    return _TABLE.sub(lambda _: schemes, _BLOCK.sub(block, text))


def main() -> int:
    """Rewrite, or with --check compare; returns 1 where the document is stale."""
    text = README.read_text(encoding="utf-8")
    wanted = rendered(text)
    if "--check" in sys.argv[1:]:
        return int(wanted != text)
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
