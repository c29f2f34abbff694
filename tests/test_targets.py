"""Targets are rows: unique, complete, and refused by name where unknown."""

from __future__ import annotations

import re

import msgspec
import pytest

from pam_edge.errors import UsageError
from pam_edge.golden import Limits
from pam_edge.quantize.schemes import scheme_named
from pam_edge.targets import TARGETS, scheme_for, target_named


def test_rows_are_unique_and_fit_the_bundle_s_names() -> None:
    assert len({t.name for t in TARGETS}) == len(TARGETS)
    for target in TARGETS:
        for name in (target.name, target.runtime, *target.schemes):
            assert re.fullmatch(r"[a-z][a-z0-9_.\-]{0,63}", name)
        assert target.schemes
        for fit in target.fits:
            bounds = msgspec.structs.asdict(fit.tolerance)
            assert all(0 < limit < 1 for name, limit in bounds.items() if name != "chain")
            assert isinstance(fit.tolerance, Limits) == (fit.scheme in ("fp32", "fp16"))
            assert scheme_named(fit.scheme).name == fit.scheme


def test_every_row_is_found_by_its_name() -> None:
    for target in TARGETS:
        assert target_named(target.name) is target


def test_an_unknown_target_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"unknown target 'toaster'; known: .*cpu"):
        target_named("toaster")


def test_a_scheme_is_the_default_or_a_possible_one() -> None:
    cpu = target_named("cpu")
    assert scheme_for(cpu, None) == "fp32"
    assert scheme_for(cpu, "fp32") == "fp32"
    with pytest.raises(UsageError, match="possible: fp32"):
        scheme_for(cpu, "int1")
