"""`export --target iphone`: what it refuses, what it forecasts, and what a finished bundle says here."""

from __future__ import annotations

import msgspec
import pytest

pytest.importorskip("coremltools")


from pam_edge.core.errors import WontFitError
from pam_edge.export.backends.coreml.writer import MAX_POSITIONS, specs
from pam_edge.export.driver import build as module
from pam_edge.export.driver.build import plan
from pam_edge.export.graphs.image_graphs import STATELESS
from pam_edge.targets import target_named


def test_integers_of_weights_alone_ask_for_no_pictures() -> None:
    settled = plan("random:nano", target="iphone")
    assert settled.scheme.name == target_named("iphone").schemes[0] == "int4"
    assert settled.samples is None


def test_a_model_that_the_phone_cannot_hold_is_refused() -> None:
    from pam_edge.export.driver.forecast import check_suits

    small, large = (plan(f"random:{name}", target="iphone") for name in ("pam-1.5b", "pam-3b"))
    check_suits(small.needs, small.target)
    with pytest.raises(WontFitError, match="iPhone"):
        wide = plan("random:pam-3b", target="iphone", scheme="fp16")
        check_suits(wide.needs, wide.target)
    assert large.needs.device > small.needs.device


def test_every_axis_is_fixed_but_the_decoder_s_tokens() -> None:
    settled = plan("random:nano", target="mac")
    for name in (*STATELESS, "decoder"):
        for signature in specs(settled.checkpoint.variant, name, settled.scheme):
            free = {axis for spec in signature for axis in spec.axes if isinstance(axis, str)}
            assert free <= ({"tokens"} if name == "decoder" else set())


def test_a_bundle_reads_no_further_than_its_cache() -> None:
    longer = msgspec.structs.replace(plan("random:pam-1.5b", target="iphone").checkpoint.variant)
    assert longer.language.max_length > (MAX_POSITIONS or 0)
    assert module._shortened(longer, MAX_POSITIONS).language.max_length == MAX_POSITIONS
    assert module._shortened(longer, None) == longer
