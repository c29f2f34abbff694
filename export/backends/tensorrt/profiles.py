"""The shapes for which TensorRT engines are built. Knows graphs by their names and free axes."""

from __future__ import annotations

from pam_edge.bundle.config import Variant
from pam_edge.bundle.manifest import Profile
from pam_edge.video.memory_bank import PROMPTED

POINTS = 32  # of a prompt, at most
# Of a decoder: answers side by side, positions a call, positions in all.
ROWS_AT_ONCE, CHUNK, CAPACITY = 8, 512, 6144


def profiles(name: str, variant: Variant) -> tuple[Profile, ...]:
    """A graph's free axes: least, usual and greatest extent. None where every axis is fixed."""
    vision, longest = variant.vision, variant.language.max_length
    match name:
        case "mask_decoder":
            return (Profile(name="prompt", axes={"points": (1, 2, POINTS)}),)
        case "memory_attention":
            memories = PROMPTED + vision.num_maskmem - 1
            pointers = PROMPTED + vision.max_obj_ptrs
            axes = {
                "memories": (1, vision.num_maskmem, memories),
                "pointers": (1, vision.max_obj_ptrs, pointers),
            }
            return (Profile(name="frame", axes=axes),)
        case "decoder":
            most = min(CAPACITY, longest)
            capacity = (1, min(1536, most), most)
            steps = {"batch": (1, 1, ROWS_AT_ONCE), "tokens": (1, 1, 1), "capacity": capacity}
            chunk = min(CHUNK, most)
            prompts = {"batch": (1, 1, 1), "tokens": (1, chunk, chunk), "capacity": capacity}
            return (Profile(name="step", axes=steps), Profile(name="prefill", axes=prompts))
        case _:
            return ()
