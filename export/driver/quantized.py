"""A quantized bundle out of a finished float one: graph by graph, resumable, through the gate at the end.

The float bundle is the reference that the new one is held to; it is read, never changed. Knows the order of
objects; how a graph's numbers become smaller is known in `quantize/` and the decoder's exporter.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.golden import Losses
from pam_edge.bundle.manifest import Check, FileRef, Manifest
from pam_edge.core.errors import UsageError
from pam_edge.export.backends.onnxruntime.decoder import embedding_record, language2onnx
from pam_edge.export.backends.onnxruntime.float_weights import DecoderWeights
from pam_edge.export.backends.onnxruntime.static_graphs import float_graph, static_graph, stored_graph
from pam_edge.export.backends.onnxruntime.weight_check import weight_check
from pam_edge.export.decoder.onnx_graph import EMBEDDING
from pam_edge.export.driver.finish import GOLDEN, REST, TOKENIZER, Report, finish
from pam_edge.export.driver.forecast import Forecast
from pam_edge.export.driver.quantize_forecast import quantize_forecast
from pam_edge.export.driver.workspace import Workspace
from pam_edge.quantize.calibration import Samples
from pam_edge.quantize.reference import reference_golden
from pam_edge.quantize.schemes import Scheme, scheme_named
from pam_edge.targets import target_named
from pam_edge.verify.verify import require_ok

FLOAT = ("fp32", "fp16")
TOOLS = ("pam-edge", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class QuantizePlan:
    """Everything settled before slow work begins."""

    source: Bundle
    scheme: Scheme
    losses: Losses
    samples: Samples | None  # to calibrate on; None where the scheme needs none
    options: dict[str, str]  # what the bytes depend on
    needs: Forecast

    @property
    def steps(self) -> tuple[str, ...]:
        """What is made, in order."""
        return (REST, *(graph.name for graph in self.source.manifest.graphs))


def plan_quantize(source: Bundle, scheme: str, *, samples: Callable[[], Samples]) -> QuantizePlan:
    """Settle what will be made of an opened, checked bundle; runs nothing and writes nothing.

    `samples` gives what a scheme with integer activations is calibrated on; no other scheme asks for it.
    Raises UsageError where the bundle is not a float one, where the scheme is unknown, float or impossible on
    its target, and whatever `samples` raises; QualityError where the bundle failed its own verification.
    """
    manifest, chosen = source.manifest, scheme_named(scheme)
    if manifest.runtime != "onnxruntime":
        raise UsageError(
            f"{source.folder} is for {manifest.runtime}, whose graphs are quantized as they are written: "
            f"use `pam-edge export --target {manifest.target} --scheme {scheme}`"
        )
    if manifest.scheme not in FLOAT:
        raise UsageError(
            f"{source.folder} is {manifest.scheme} already; give a bundle of scheme {' or '.join(FLOAT)}"
        )
    losses = target_named(manifest.target).tolerance(chosen.name)
    if not isinstance(losses, Losses):
        raise UsageError(f"{chosen.name} quantizes nothing; make it with `pam-edge export --scheme {scheme}`")
    require_ok(manifest.verification)
    seen = samples() if chosen.calibrated else None
    options = {"bundle": manifest.sha256, "scheme": chosen.name}
    options["calibrated on"] = "nothing" if seen is None else seen.about
    options |= {tool: version(tool) for tool in TOOLS}
    return QuantizePlan(source, chosen, losses, seen, options, quantize_forecast(source, chosen))


def quantize_bundle(
    settled: QuantizePlan, folder: Path, *, force: bool = False, report: Report = lambda name, part: None
) -> Bundle:
    """Make the bundle in `folder`, going on where an interrupted run of the same plan stopped.

    What it loses is in its verification, not raised. Raises UsageError where the folder is taken or is the
    float bundle's own, EnvironmentProblem or WontFitError where it cannot be written.
    """
    source = settled.source
    if folder.resolve() == source.folder.resolve():
        raise UsageError(f"{folder} is the float bundle itself; choose another -o")
    with Workspace(folder, options=settled.options, force=force) as work:
        for name in settled.steps:
            if work.finished(name) is not None:
                report(name, None)
                continue
            report(name, 0.0)
            with work.step() as place:
                files = _make(settled, name, place, calibration=work.shelf, report=report)
            work.keep(name, files)
            report(name, 1.0)
        manifest = _manifest(settled, {name: work.files(name) for name in settled.steps})
        return finish(work, manifest, report, also=lambda: (_weights(settled, folder),))


def _make(
    settled: QuantizePlan, name: str, place: Path, *, calibration: Path, report: Report
) -> tuple[str, ...]:
    """Write a step's files; return their names, the engine's first."""
    source, tell = settled.source, partial(report, name)
    match name:
        case "rest":
            (place / GOLDEN).write_bytes(reference_golden(source, settled.losses))
            shutil.copyfile(source.path(source.manifest.tokenizer), place / TOKENIZER)
            return (GOLDEN, TOKENIZER)
        case "decoder":
            made = language2onnx(
                source.manifest.variant.language,
                DecoderWeights(source),
                place,
                scheme=settled.scheme,
                progress=lambda done, total: tell(0.99 * done / total),
            )
        case "image_encoder" | "mask_decoder" | "perceiver" | "perceiver_frame" if settled.samples:
            made = static_graph(
                float_graph(source, name, calibration),
                name,
                place,
                scheme=settled.scheme,
                samples=settled.samples,
                work=calibration,
                image_size=source.manifest.variant.vision.image_size,
                tell=tell,
            )
        case _:
            made = stored_graph(source, name, place, settled.scheme)
    return tuple(path.name for path in made)


def _weights(settled: QuantizePlan, folder: Path) -> Check:
    source = settled.source
    language, limit = source.manifest.variant.language, settled.losses.weights
    return weight_check(folder, DecoderWeights(source), language, scheme=settled.scheme, limit=limit)


def _manifest(settled: QuantizePlan, files: dict[str, tuple[FileRef, ...]]) -> Manifest:
    held = settled.source.manifest
    golden, tokenizer = files[REST]
    (table,) = (ref for ref in files["decoder"] if ref.path == EMBEDDING)
    graphs = (msgspec.structs.replace(graph, files=files[graph.name]) for graph in held.graphs)
    return msgspec.structs.replace(
        held,
        scheme=settled.scheme.name,
        graphs=tuple(graphs),
        embedding=embedding_record(held.variant.language, settled.scheme, table),
        tokenizer=tokenizer,
        golden=golden,
        tools={**held.tools, **{tool: version(tool) for tool in TOOLS}},
        verification=None,
    )
