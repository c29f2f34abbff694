"""Targets are rows: unique, complete, and refused by name where unknown."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
from tiny_language import tiny_manifest

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import NANO, PAM_1_5B, PAM_3B, variant_named
from pam_edge.bundle.golden import Limits
from pam_edge.bundle.manifest import FileRef
from pam_edge.cli.targets import target_details
from pam_edge.core.errors import EnvironmentProblem, UsageError, WontFitError
from pam_edge.export.backends.base import MemoryModel, writer_for
from pam_edge.export.checkpoint.checkpoint import expected_shapes
from pam_edge.export.driver.forecast import check_suits, forecast
from pam_edge.quantize.schemes import FP32, scheme_named
from pam_edge.runtimes.common.registry import ENGINES, check_engine, open_decoder, open_session
from pam_edge.targets import TARGETS, Target, scheme_for, target_named

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]


def test_rows_are_unique_and_fit_the_bundle_s_names() -> None:
    assert len({t.name for t in TARGETS}) == len(TARGETS)
    engines = {record.name for record in ENGINES}
    for target in TARGETS:
        assert target.runtime in engines
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
    needs = forecast(variant, expected_shapes(variant), scheme, writer.MEMORY)
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


@pytest.mark.parametrize("runtime", [record.name for record in ENGINES])
def test_every_engine_opens_or_says_what_is_missing(runtime: str, tmp_path: Path) -> None:
    nothing = FileRef(path="nothing", bytes=0, sha256="0" * 64)
    manifest = msgspec.structs.replace(tiny_manifest(NANO, (), nothing), runtime=runtime)
    bundle = Bundle(tmp_path, manifest)
    calls = (lambda: check_engine(runtime), lambda: open_session(bundle, "a"), lambda: open_decoder(bundle))
    for call in calls:
        try:
            call()
        except (EnvironmentProblem, UsageError) as e:  # absent here, or the bundle has no such graph
            assert "unknown to this version" not in str(e)


def test_every_record_names_modules_and_an_extra_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for record in ENGINES:
        assert find_spec(record.opener) and find_spec(record.writer), record.name
        assert not record.extra or record.packages[0] in "".join(extras[record.extra])


def test_a_cache_of_fixed_length_counts_whole() -> None:
    lm, shapes, int4 = PAM_1_5B.language, expected_shapes(PAM_1_5B), scheme_named("int4")
    some, more = (
        forecast(PAM_1_5B, shapes, int4, MemoryModel(cache="float16", cached=n)).device for n in (2000, 3000)
    )
    position = 2 * 2 * lm.layers * lm.kv_heads * lm.head_dim  # keys and values, two bytes each
    assert more - some == 2 * 1000 * position  # of a region, and of an answer
    assert forecast(PAM_1_5B, shapes, int4, MemoryModel(cached=3000)).device - more == 2 * 3000 * position
