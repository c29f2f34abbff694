"""Writing large files: what the operating system says, said so that a user can act on it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pam_edge.errors import EnvironmentProblem, WontFitError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(folder: Path, what: str, *, size: int) -> Iterator[None]:
    """Turn the OSErrors of a block that writes `what` (`size` bytes) into `folder` into ours.

    Raises WontFitError on a full disk, EnvironmentProblem for everything else that keeps the files from being
    written.
    """
    try:
        yield
    except OSError as e:
        if e.errno in _FULL or e.errno is None:  # numpy's own writer reports a short write without a number
            raise WontFitError(
                f"no room for {what} in {folder}: it takes {size / 1e6:.1f} MB; "
                "free some space or choose another folder"
            ) from e
        raise EnvironmentProblem(
            f"cannot write {what} into {folder}: {e.strerror or e}; choose another folder"
        ) from e
