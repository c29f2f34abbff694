"""Skips become failures, unless `allowed_skips.py` names them: for CI and `make test`.

On where PAM_EDGE_NO_SKIP or CI is set; PAM_EDGE_NO_SKIP=0 switches it off. A plugin of pytest: conftest.py
imports its hooks.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from allowed_skips import allowed

_OFF = ("", "0", "false")


def strict() -> bool:
    """Whether a skip is a failure in this run."""
    return os.environ.get("PAM_EDGE_NO_SKIP", os.environ.get("CI", "")).lower() not in _OFF


def refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip that is not allowed here into a failure that says what to do."""
    if not strict() or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not allowed(reason):
        report.outcome = "failed"
        report.longrepr = (
            f"{report.nodeid} is skipped, which fails here: {reason}\n"
            "Install what it needs (`make system`), or set PAM_EDGE_NO_SKIP=0; what this machine can never "
            "run is named in tests/allowed_skips.py."
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips."""
    report = yield
    refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that skips as a whole."""
    report = yield
    refuse(report)
    return report
