"""The whole export on one screen: target, forecast, checkpoint, graph by graph, bundle.json, verification.

Knows the order of objects and nothing of how each is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec

from pam_edge.bundle import builtin
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import Variant
from pam_edge.bundle.manifest import SCHEMA, FileRef, Graph, Manifest, Weights
from pam_edge.core import system_info
from pam_edge.core.errors import UsageError
from pam_edge.export.backends.base import Job, Writer, writer_for
from pam_edge.export.backends.onnxruntime.decoder import embedding_record
from pam_edge.export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from pam_edge.export.checkpoint.fingerprint import fingerprint
from pam_edge.export.checkpoint.hub_names import HubFiles
from pam_edge.export.decoder.onnx_graph import EMBEDDING
from pam_edge.export.driver.finish import GOLDEN, REST, TOKENIZER, Report, finish
from pam_edge.export.driver.forecast import Forecast, forecast
from pam_edge.export.driver.parts import Part, load_recording, recording, save_recording, split_told
from pam_edge.export.driver.workspace import Workspace
from pam_edge.export.graphs.image_graphs import STATELESS, GraphName
from pam_edge.export.reference.golden import Arrays, golden_file
from pam_edge.quantize.calibration import Samples
from pam_edge.quantize.schemes import Scheme, scheme_named
from pam_edge.targets import Target, scheme_for, target_named
from pam_edge.text.tokenization import PAM_PROMPTS

GRAPHS: tuple[GraphName, ...] = (*STATELESS, "decoder")


@dataclass(frozen=True)
class Plan:
    """Everything settled before slow work begins."""

    target: Target
    writer: Writer
    scheme: Scheme
    checkpoint: Checkpoint
    needs: Forecast
    samples: Samples | None  # to calibrate on; None where the scheme needs none
    options: dict[str, str]  # what the bytes depend on


def plan(
    weights: str | HubFiles,
    *,
    target: str,
    scheme: str | None = None,
    sam2: Path | HubFiles | None = None,
    sam2_config: Path | None = None,
    seed: int = 0,
    samples: Callable[[Checkpoint], Samples] | None = None,
) -> Plan:
    """Settle target, scheme and weights, and forecast what they need; reads no tensor and writes nothing.

    What comes from the hub is given as `hub.fetch` returns it. `samples` gives what a scheme with integer
    activations is calibrated on; no other scheme asks for it.
    Raises UsageError for what is unknown or impossible, IntegrityError for damaged or incomplete weights, and
    whatever `samples` raises.
    """
    device = target_named(target)
    chosen = scheme_named(scheme_for(device, scheme))
    writer = writer_for(device.runtime)
    if not weights:
        raise UsageError("--weights is empty: give a PAM folder, ORG/NAME, nano or random:VARIANT")
    place, sam2_place = _place(weights), None if sam2 is None else Path(_place(sam2))
    checkpoint = open_checkpoint(place, sam2=sam2_place, sam2_config=sam2_config, seed=seed)
    checkpoint.weights = _named(checkpoint.weights, weights, sam2)
    options = {
        "target": device.name,
        "scheme": chosen.name,
        "weights": checkpoint.weights.source,
        "seed": str(seed),
    }
    seen = None
    if chosen.calibrated and writer.CALIBRATES:
        if samples is None:
            raise UsageError(f"scheme {chosen.name} needs pictures to calibrate on")
        seen = samples(checkpoint)
        options["calibrated on"] = seen.about
    options |= {tool: version(tool) for tool in writer.TOOLS}
    read: Path | HubFiles | None = None
    if isinstance(weights, HubFiles):
        read = weights
    elif checkpoint.weights.kind == "files":
        read = builtin.WEIGHTS if builtin.ships(weights) else Path(weights)
    for name, files in (("files", read), ("sam2", sam2), ("sam2 config", sam2_config)):
        if files is not None:  # a commit is the same weights wherever and whenever it was downloaded
            options[name] = str(files) if isinstance(files, HubFiles) else fingerprint(files)
    shapes = {key: checkpoint.shape(key) for key in checkpoint.keys()}  # noqa: SIM118  (no mapping)
    needs = forecast(checkpoint.variant, shapes, chosen, writer.APPETITE, calibrates=writer.CALIBRATES)
    return Plan(device, writer, chosen, checkpoint, needs, seen, options)


def _place(files: str | Path | HubFiles) -> str:
    return str(files.path if isinstance(files, HubFiles) else files)


def _named(read: Weights, weights: str | HubFiles, sam2: Path | HubFiles | None) -> Weights:
    """The record of what was read, with repository and commit of what came from the hub."""
    if isinstance(weights, HubFiles):
        read = msgspec.structs.replace(read, source=weights.repo, revision=weights.commit)
    return msgspec.structs.replace(read, sam2=str(sam2)) if isinstance(sam2, HubFiles) else read


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
        compared = work.finished(REST) is not None  # then nobody reads the recordings any more
        for name in GRAPHS:
            part, kept = Part(name, checkpoint), recording(name)
            known = compared or work.finished(kept) is not None
            if known and work.finished(name) is not None:
                report(name, None)
                continue
            report(name, 0.0)
            if not known:
                with work.step() as place:
                    found = part.record(recorded, limit=tolerance.tie, tell=partial(_from, report, name, 0.0))
                    save_recording(place / kept, found)
                work.keep(kept, [], scratch=[kept])
                del found
                system_info.return_freed_memory()
            if work.finished(name) is None:
                tell = partial(_from, report, name, 0.3)
                job = Job(part, settled.scheme, settled.samples, work, tell, recorded)
                work.keep(name, settled.writer.write(job))
            report(name, 1.0)
        if work.finished(REST) is None:
            whole, told = split_told({k: v for name in GRAPHS for k, v in recorded(name).items()})
            with work.step() as place:
                golden = golden_file(whole, variant=checkpoint.variant, limits=tolerance, told=told)
                (place / GOLDEN).write_bytes(golden)
                (place / TOKENIZER).write_bytes(checkpoint.tokenizer_json)
            work.keep(REST, [GOLDEN, TOKENIZER])
        manifest = _manifest(settled, {name: work.files(name) for name in (*GRAPHS, REST)})
        also = partial(settled.writer.checks, folder, checkpoint, settled.scheme, tolerance)
        return finish(work, manifest, report, also=also, rehearse=settled.writer.rehearse)


def _from(report: Report, name: str, start: float, part: float) -> None:
    report(name, start + (0.99 - start) * part)  # 1.0 is for the finished graph


def _shortened(variant: Variant, longest: int | None) -> Variant:
    """The model as its bundle is made: reading no more positions than the engine's cache holds."""
    language = variant.language
    reads = language.max_length if longest is None else min(language.max_length, longest)
    return msgspec.structs.replace(variant, language=msgspec.structs.replace(language, max_length=reads))


def _manifest(settled: Plan, files: dict[str, tuple[FileRef, ...]]) -> Manifest:
    checkpoint, writer = settled.checkpoint, settled.writer
    variant = _shortened(checkpoint.variant, writer.LONGEST)
    golden, tokenizer = files[REST]
    (embedding,) = (ref for ref in files["decoder"] if ref.path == EMBEDDING)
    graphs = []
    for name in GRAPHS:
        inputs, outputs = writer.specs(variant, name, settled.scheme)
        graph = Graph(name=name, files=files[name], inputs=inputs, outputs=outputs)
        graphs.append(writer.described(graph, variant, settled.scheme))
    return Manifest(
        schema=SCHEMA,
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
        tools={tool: version(tool) for tool in writer.TOOLS},
        golden=golden,
        verification=None,
    )
