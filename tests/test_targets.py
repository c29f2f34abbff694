"""Targets are rows: unique, complete, and refused by name where unknown."""

from __future__ import annotations

import re

import msgspec
import pytest

from pam_edge.config import PAM_3B, variant_named
from pam_edge.errors import UsageError, WontFitError
from pam_edge.export.checkpoint import expected_shapes
from pam_edge.export.forecast import check_suits, forecast
from pam_edge.export.writer import writer_for
from pam_edge.golden import Limits
from pam_edge.quantize.schemes import FP32, scheme_named
from pam_edge.tables import target_details
from pam_edge.targets import TARGETS, Target, scheme_for, target_named


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


def test_another_name_finds_the_same_row() -> None:
    assert target_named("jetson") is target_named("jetson-orin-nano")
    names = [name for target in TARGETS for name in (target.name, *target.aliases)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_suggested_model_fits_at_the_default_scheme(target: Target) -> None:
    variant = variant_named(target.variant)
    scheme, writer = scheme_named(target.schemes[0]), writer_for(target.runtime)
    needs = forecast(variant, expected_shapes(variant), scheme, writer.APPETITE)
    check_suits(needs, target)
    assert target.memory is None or target.memory.source


def test_what_a_device_has_no_memory_for_is_refused() -> None:
    nano = target_named("jetson")
    needs = forecast(PAM_3B, expected_shapes(PAM_3B), FP32)
    with pytest.raises(WontFitError, match=r"leaves a process 6\.0 GB .*smaller scheme"):
        check_suits(needs, nano)
    check_suits(needs, target_named("jetson-agx-orin"))


def test_details_tell_limits_and_their_source() -> None:
    text = target_details(target_named("jetson"))
    for told in ("jetson-orin-nano, jetson", "reckoned", "int4 (default)", "chain 2"):
        assert told in text


def test_a_scheme_is_the_default_or_a_possible_one() -> None:
    cpu = target_named("cpu")
    assert scheme_for(cpu, None) == "fp32"
    assert scheme_for(cpu, "fp32") == "fp32"
    with pytest.raises(UsageError, match="possible: fp32"):
        scheme_for(cpu, "int1")
