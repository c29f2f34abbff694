"""The whole export on one screen: target, forecast, checkpoint, graph by graph, bundle.json, verification.

Knows the order of things and nothing of how each is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from pam_edge import packaged
from pam_edge.bundle import Bundle, FileRef, Graph, Manifest
from pam_edge.errors import UsageError
from pam_edge.export.checkpoint import Checkpoint, open_checkpoint
from pam_edge.export.fingerprint import fingerprint
from pam_edge.export.finish import Report, finish
from pam_edge.export.forecast import Forecast, forecast
from pam_edge.export.golden import Arrays, golden_file
from pam_edge.export.graphs import STATELESS, GraphName
from pam_edge.export.onnx_decoder import EMBEDDING, embedding_record
from pam_edge.export.parts import Part, load_recording, recording, save_recording, specs, split_told
from pam_edge.export.workspace import Workspace
from pam_edge.prompts import PAM_PROMPTS
from pam_edge.quantize.schemes import Scheme, scheme_named
from pam_edge.targets import Target, scheme_for, target_named

GRAPHS: tuple[GraphName, ...] = (*STATELESS, "decoder")
TOOLS = ("pam-edge", "torch", "onnx", "onnxscript", "onnxruntime", "numpy", "tokenizers")
TOKENIZER, GOLDEN, REST = "tokenizer.json", "golden.npz", "rest"


@dataclass(frozen=True)
class Plan:
    """Everything settled before slow work begins."""

    target: Target
    scheme: Scheme
    checkpoint: Checkpoint
    needs: Forecast
    options: dict[str, str]  # what the bytes depend on


def plan(
    weights: str,
    *,
    target: str,
    scheme: str | None = None,
    sam2: Path | None = None,
    sam2_config: Path | None = None,
    seed: int = 0,
) -> Plan:
    """Settle target, scheme and weights, and forecast what they need; reads no tensor and writes nothing.

    Raises UsageError for what is unknown or impossible, IntegrityError for damaged or incomplete weights.
    """
    device = target_named(target)
    chosen = scheme_named(scheme_for(device, scheme))
    if not weights:
        raise UsageError("--weights is empty: give a PAM folder, nano or random:VARIANT")
    checkpoint = open_checkpoint(weights, sam2=sam2, sam2_config=sam2_config, seed=seed)
    options = {
        "target": device.name,
        "scheme": chosen.name,
        "weights": checkpoint.weights.source,
        "seed": str(seed),
    }
    options |= {tool: version(tool) for tool in TOOLS}
    read = None
    if checkpoint.weights.kind == "files":
        read = packaged.WEIGHTS if packaged.ships(weights) else Path(weights)
    for name, path in (("files", read), ("sam2", sam2), ("sam2 config", sam2_config)):
        if path is not None:
            options[name] = fingerprint(path)
    shapes = {key: checkpoint.shape(key) for key in checkpoint.keys()}  # noqa: SIM118  (no mapping)
    return Plan(device, chosen, checkpoint, forecast(checkpoint.variant, shapes, chosen), options)


def build(
    settled: Plan, folder: Path, *, force: bool = False, report: Report = lambda name, part: None
) -> Bundle:
    """Make the bundle in `folder`, going on where an interrupted export of the same plan stopped.

    Numbers that are off are in its verification, not raised; the verification is None where the target's
    engine is not on this machine. Raises UsageError where the folder is taken, EnvironmentProblem or
    WontFitError where it cannot be written.
    """
    checkpoint, tolerance = settled.checkpoint, settled.target.tolerance(settled.scheme.name)

    def recorded(name: GraphName) -> Arrays:
        return load_recording(folder / recording(name))

    with Workspace(folder, options=settled.options, force=force) as work:
        for name in GRAPHS:
            if work.finished(name) is not None:
                report(name, None)
                continue
            report(name, 0.0)
            part, kept = Part(name, checkpoint), recording(name)
            if work.finished(kept) is None:
                with work.step() as place:
                    found = part.record(recorded, limit=tolerance.tie, tell=partial(_half, report, name, 0.0))
                    save_recording(place / kept, found)
                work.keep(kept, [], scratch=[kept])
            report(name, 0.5)
            with work.step() as place:
                files = part.write(place, scheme=settled.scheme, tell=partial(_half, report, name, 0.5))
            work.keep(name, files)
            report(name, 1.0)
        if work.finished(REST) is None:
            whole, told = split_told({k: v for name in GRAPHS for k, v in recorded(name).items()})
            with work.step() as place:
                golden = golden_file(whole, variant=checkpoint.variant, limits=tolerance, told=told)
                (place / GOLDEN).write_bytes(golden)
                (place / TOKENIZER).write_bytes(checkpoint.tokenizer_json)
            work.keep(REST, [GOLDEN, TOKENIZER])
        manifest = _manifest(settled, {name: work.files(name) for name in (*GRAPHS, REST)})
        return finish(work, manifest, report)


def _half(report: Report, name: str, start: float, part: float) -> None:
    report(name, start + 0.49 * part)  # 1.0 is for the finished graph


def _manifest(settled: Plan, files: dict[str, tuple[FileRef, ...]]) -> Manifest:
    checkpoint, variant = settled.checkpoint, settled.checkpoint.variant
    golden, tokenizer = files[REST]
    (embedding,) = (ref for ref in files["decoder"] if ref.path == EMBEDDING)
    graphs = []
    for name in GRAPHS:
        inputs, outputs = specs(variant, name)
        graphs.append(Graph(name=name, files=files[name], inputs=inputs, outputs=outputs))
    return Manifest(
        schema=1,
        variant=variant,
        weights=checkpoint.weights,
        target=settled.target.name,
        runtime=settled.target.runtime,
        scheme=settled.scheme.name,
        graphs=tuple(graphs),
        embedding=embedding_record(variant.language, settled.scheme, embedding),
        tokenizer=tokenizer,
        prompts=PAM_PROMPTS,
        stop_ids=checkpoint.stop_ids,
        tools={tool: version(tool) for tool in TOOLS},
        golden=golden,
        verification=None,
    )
