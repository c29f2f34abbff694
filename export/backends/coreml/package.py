"""A CoreML package as a bundle wants it: the same program gives the same bytes, and nothing tells who made
it.

A `.mlpackage` is a folder: `Manifest.json`, the program (`Data/com.apple.CoreML/model.mlmodel`) and its
weights beside it. coremltools names its parts by random numbers and dates them; here both are settled.
Knows no graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from coremltools import proto
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - what its own documents call it
from coremltools.models import MLModel
from tqdm import tqdm

from pam_edge.core.errors import cannot_write
from pam_edge.export.backends.quiet import quiet

SUFFIX = ".mlpackage"
_NOTES = "executorch_debug_handle_mapping.json"  # which node of torch's graph became what; no engine reads it
_DATED = "com.github.apple.coremltools.conversion_date"
_IDENTIFIERS = "itemInfoEntries", "rootModelIdentifier"


def save_package(model: MLModel, path: Path) -> tuple[Path, ...]:
    """Write a converted model as the package `path`; return its files, the manifest first.

    Raises WontFitError on a full disk, EnvironmentProblem where the folder cannot be written.
    """
    try:
        with silent():
            model.save(str(path))
        (path / _NOTES).unlink(missing_ok=True)
        manifest = path / "Manifest.json"
        program = path / "Data" / _settle(manifest)
        spec = proto.Model_pb2.Model()
        spec.ParseFromString(program.read_bytes())
        spec.description.metadata.userDefined.pop(_DATED, None)
        program.write_bytes(spec.SerializeToString(deterministic=True))
    except OSError as e:
        raise cannot_write(path, e) from e
    except RuntimeError as e:  # what coremltools' own writer of packages makes of a full disk
        raise cannot_write(path, OSError(None, str(e))) from e
    rest = sorted(file for file in path.rglob("*") if file.is_file() and file != manifest)
    return (manifest, *rest)


def _settle(manifest: Path) -> str:
    """Give a package's parts names that follow from what they are; return where its program lies."""
    held: dict[str, Any] = json.loads(manifest.read_text())
    entries, root = (held[key] for key in _IDENTIFIERS)
    named = {old: str(uuid5(NAMESPACE_URL, entry["path"])).upper() for old, entry in entries.items()}
    held[_IDENTIFIERS[0]] = {named[old]: entry for old, entry in entries.items()}
    held[_IDENTIFIERS[1]] = named[root]
    # As coremltools lays it out: it writes the file again whenever it opens a package.
    manifest.write_text(json.dumps(held, indent=4, sort_keys=True) + "\n")
    path: str = entries[root]["path"]
    return path


@contextmanager
def conversion() -> Iterator[None]:
    """coremltools at work: quietly, and with names counted from 0, though it would go on where an earlier
    conversion or reading of this process stopped.
    """
    mb.name_count.clear()
    with silent():
        yield


@contextmanager
def silent() -> Iterator[None]:
    """No progress bars, no warnings of torch versions and passes."""
    drawn = tqdm.__init__
    tqdm.__init__ = partialmethod(drawn, disable=True)
    try:
        with quiet("coremltools"):
            yield
    finally:
        tqdm.__init__ = drawn
