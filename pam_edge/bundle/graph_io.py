"""What the run side feeds and reads of each graph. Knows names of tensors, no shapes and no engine."""

from __future__ import annotations

from collections.abc import Mapping

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Graph
from pam_edge.core.errors import IntegrityError, UsageError

Borders = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]  # graph to inputs and outputs

# A bundle without these is not one of ours.
PICTURES: Borders = {
    "image_encoder": (("image",), ("image_embed", "high_res_0", "high_res_1")),
    "mask_decoder": (
        (
            *("image_embed", "no_memory", "high_res_0", "high_res_1"),
            *("point_coords", "point_labels", "mask_prompt", "has_mask"),
        ),
        ("masks", "iou", "object_score", "region_embed", "mask_tokens"),
    ),
    "perceiver": (("region_embed", "mask_tokens"), ("region_tokens",)),
    "decoder": (("embeds",), ("logits",)),
}
# What video takes beside them; bundles made before it lack these.
VIDEO: Borders = {
    "mask_decoder": ((), ("object_pointer",)),
    "memory_encoder": (("image_embed", "masks", "object_score", "prompted"), ("memory",)),
    "memory_attention": (
        (
            *("image_embed", "memory", "memory_age", "memory_valid"),
            *("pointers", "pointer_time", "pointer_valid"),
        ),
        ("conditioned",),
    ),
    "perceiver_frame": (("region_embed", "mask_tokens"), ("frame_tokens",)),
}


def check_borders(bundle: Bundle, borders: Borders) -> None:
    """Raise IntegrityError where a graph lacks what is fed or read, UsageError where it is not there."""
    for name, (inputs, outputs) in borders.items():
        graph = bundle.graph(name)
        held = {t.name for t in graph.inputs}, {t.name for t in graph.outputs}
        missing = {*inputs} - held[0] | {*outputs} - held[1]
        if missing:
            raise IntegrityError(f"graph {name} lacks {', '.join(sorted(missing))}; export the bundle again")


def slots(graph: Graph, name: str) -> int | None:
    """How many slots an input has, its second axis; None where that is free. Raises IntegrityError."""
    axes = graph.input(name).axes
    if len(axes) < 2:
        raise IntegrityError(f"graph {graph.name} has no slots in {name}; export the bundle again")
    return axes[1] if isinstance(axes[1], int) else None


def check_video(bundle: Bundle) -> None:
    """Raise UsageError where a bundle answers about pictures alone, IntegrityError like `check_borders`."""
    held = {graph.name for graph in bundle.manifest.graphs}
    missing = [name for name in VIDEO if name not in held]
    if missing:
        raise UsageError(
            f"this bundle is for pictures alone: it has no {', '.join(missing)}; "
            "export the bundle again with this version of pam-edge to follow objects in videos"
        )
    check_borders(bundle, VIDEO)
