"""The world nano knows: rendered scenes of everyday objects, with everything that is true of them.

Seeded and self-contained (numpy and Pillow). `scene(seed)` gives a picture, exact masks and words; `answer`
what each task of PAM should say of an object; `scene(seed, "heldout")` only combinations training never sees.
"""

from __future__ import annotations

from pam_edge.benchmarks.synthetic.answers import (  # fmt: skip
    LANGUAGES,
    TASKS,
    Language,
    Task,
    answer,
    category,
    explanation,
    named_colour,
    named_kind,
)
from pam_edge.benchmarks.synthetic.clicks import centre_click, correcting_click, random_click
from pam_edge.benchmarks.synthetic.clip_words import (
    event_caption,
    history,
    named_event,
    segment_caption,
    told_events,
    told_in_full,
    told_subject,
)
from pam_edge.benchmarks.synthetic.clips import Clip, Segment, clip
from pam_edge.benchmarks.synthetic.combos import Combo, Split, combos, is_held_out
from pam_edge.benchmarks.synthetic.palette import COLOURS, PATTERNS
from pam_edge.benchmarks.synthetic.questions import question, random_question
from pam_edge.benchmarks.synthetic.records import read_annotations
from pam_edge.benchmarks.synthetic.scene import Box, Scene, WorldObject, nth_seed, scene
from pam_edge.benchmarks.synthetic.texts import KINDS, Kind, kind_named
from pam_edge.benchmarks.synthetic.write import write_clips, write_images

__all__ = [
    "COLOURS", "KINDS", "LANGUAGES", "PATTERNS", "TASKS",
    "Box", "Clip", "Combo", "Kind", "Language", "Scene", "Segment", "Split", "Task", "WorldObject",
    "answer", "category", "centre_click", "clip", "combos", "correcting_click", "event_caption",
    "explanation", "history", "is_held_out", "kind_named", "named_colour", "named_event", "named_kind",
    "nth_seed", "question", "random_click", "random_question", "read_annotations", "scene",
    "segment_caption", "told_events", "told_in_full", "told_subject", "write_clips", "write_images",
]  # fmt: skip
