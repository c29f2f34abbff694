"""Every error pam-edge raises on purpose, and the exit code each one means.

    PamEdgeError                    1
    ├── UsageError                  2   the call makes no sense as given (bad value, unknown name)
    ├── EnvironmentProblem          3   this machine lacks something (a package, a permission, an engine)
    ├── QualityError                4   numbers are off: verification or an accuracy gate failed
    ├── DeviceError                 5   a remote device failed or went away
    ├── IntegrityError              6   a file is damaged, hostile, incomplete, or of an unknown schema
    ├── WontFitError                7   not enough memory, disk or cache for what was asked
    └── RegressionError             8   a comparison found something slower or bigger than allowed

A message says what is wrong, where, and what to do about it. `app.py` prints it to stderr and exits with
`exit_code`; anything else that escapes is a bug (exit code 1).
"""

from __future__ import annotations

import errno
from os import PathLike


class PamEdgeError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class UsageError(PamEdgeError, ValueError):
    """The call makes no sense as given: fix the arguments."""

    exit_code = 2


class EnvironmentProblem(PamEdgeError):  # noqa: N818 - EnvironmentError is Python's own
    """This machine lacks something: a package, a permission, an engine."""

    exit_code = 3


class QualityError(PamEdgeError):
    """Numbers are off: verification or an accuracy gate failed."""

    exit_code = 4


class DeviceError(PamEdgeError):
    """A remote device failed or went away."""

    exit_code = 5


class IntegrityError(PamEdgeError):
    """A file is damaged, hostile, incomplete, or of an unknown schema."""

    exit_code = 6


class WontFitError(PamEdgeError):
    """Not enough memory, disk or cache for what was asked."""

    exit_code = 7


class RegressionError(PamEdgeError):
    """A comparison found something slower or bigger than allowed."""

    exit_code = 8


def prompt_too_late(frame: int, count: int) -> UsageError:
    """What to raise where a prompt is on a frame after the last of a video with so many."""
    return UsageError(
        f"a prompt is on frame {frame}, but the video has {count} (counted from 0): point at an earlier one"
    )


def cannot_write(path: str | PathLike[str], error: OSError) -> PamEdgeError:
    """What to raise where a file cannot be written: WontFitError for a full disk, else EnvironmentProblem."""
    why = error.strerror or type(error).__name__
    # numpy's own writer reports a short write without a number.
    if error.errno in (None, errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return WontFitError(f"cannot write {path}: {why}; free some space or write somewhere else")
    return EnvironmentProblem(f"cannot write {path}: {why}; check its permissions or write somewhere else")
