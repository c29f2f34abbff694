"""Files whose tests export, train or start many processes: marked slow, left out by `make test-fast`."""

from __future__ import annotations

import pytest

SLOW_FILES = frozenset(
    f"test_{name}"
    for name in (
        *(
            "adb",
            "adding",
            "bench",
            "claims",
            "cold",
            "docs",
            "examples",
            "exports",
            "frozen",
            "hub",
            "no_skips",
        ),
        *(
            "coreml_decoder",
            "coreml_export",
            "coreml_graphs",
            "executorch",
            "export",
            "export_deaths",
            "gptq",
        ),
        *(
            "decoder_contract",
            "demo_clip",
            "half",
            "motion",
            "mutations",
            "onnx_graphs",
            "other_cpus",
            "packaged",
        ),
        *(
            "pam_golden",
            "parity_onnx",
            "parity_torch",
            "parity_video",
            "peers",
            "placeholders",
            "quantize_bundle",
        ),
        *(
            "bad_bundles",
            "bad_exports",
            "checkpoint_damage",
            "oldest_engine",
            "quality",
            "random_weights",
            "ssh",
        ),
        *(
            "quantized_decoder",
            "report",
            "session_contract",
            "static_quantization",
            "tensorrt_export",
            "workspace",
        ),
        *("gate", "layered", "tensorrt_files", "verified_here", "world_clips", "world_files", "first_answer"),
    )
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of these files."""
    for item in items:
        if item.path.stem in SLOW_FILES:
            item.add_marker(pytest.mark.slow)
