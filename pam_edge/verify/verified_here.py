"""Whether a bundle was verified on this kind of CPU: where it was made, or here, as the user's cache tells.

A bundle is never written to. `pam-edge verify` keeps its outcome, good or bad, in the user's cache folder: a
small file for each bundle, engine version and kind of CPU; a file that says anything else is not believed.
Only of engines that compute on the CPU, and where the system tells its kind. Runs nothing.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass

import msgspec

from pam_edge.bundle import builtin
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Verification
from pam_edge.core import user_cache
from pam_edge.core.cpu_kind import cpu_kind
from pam_edge.runtimes.common.registry import computes_on_cpu, engine_version

_FOLDER = "verified"
_MAX_BYTES = 4096


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An engine on a kind of CPU; "" is what the system does not tell."""

    runtime: str
    engine: str  # its version
    cpu: str


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One remembered outcome; all but `ok` is what it is found by."""

    bundle: str
    place: Place
    ok: bool


@dataclass(frozen=True)
class Here:
    """How a bundle stands on this machine."""

    name: str  # what a command line calls the bundle
    place: Place
    made: Place | None  # where bundle.json says that it was verified; None where it was not, or does not say
    oldest_engine: str
    ok: bool | None  # of `pam-edge verify` at this place; None where it was not run


def look_up(bundle: Bundle) -> Here:
    """How it stands here. Raises nothing: what cannot be read is as if it were not there."""
    manifest, place = bundle.manifest, _this_place(bundle)
    verified, made = manifest.verification, None
    if verified is not None and verified.cpu:
        made = Place(manifest.runtime, verified.engine, verified.cpu)
    name = builtin.NANO if bundle.folder == builtin.BUNDLE else shlex.quote(str(bundle.folder))
    return Here(name, place, made, manifest.oldest_engine, _remembered(manifest.sha256, place))


def warnings(here: Here) -> list[str]:
    """What whoever opens the bundle must know, a line each; none where all is well or nothing is known."""
    place, found = here.place, []
    if place.engine and here.oldest_engine and _number(place.engine) < _number(here.oldest_engine):
        found.append(
            f"this bundle needs {place.runtime} {here.oldest_engine} or newer, here is {place.engine}: "
            f"pip install -U {place.runtime}"
        )
    if here.ok is False:
        found.append(
            f"this bundle failed `pam-edge verify` on this kind of CPU ({place.cpu}, {place.runtime} "
            f"{place.engine}): do not trust its answers here"
        )
    elif here.ok is None and here.made is not None and place.cpu not in ("", here.made.cpu):
        found.append(
            f"verified on {here.made.cpu}; this CPU is {place.cpu}: run `pam-edge verify {here.name}` once"
        )
    return found


def verdict(here: Here) -> str:
    """One line for who asks how it stands: also of another version of the engine, which is no warning."""
    place, made = here.place, here.made
    if not place.cpu:
        return ""
    at = f"{place.runtime} {place.engine} on {place.cpu}"
    if here.ok is not None:
        return f"{'verified' if here.ok else 'FAILED verification'} here ({at})"
    if made is None:
        return f"bundle.json does not say on which kind of CPU it was verified; this is {at}"
    if made == place:
        return f"verified on this kind of CPU ({at})"
    if made.cpu == place.cpu:
        return f"verified on this kind of CPU with {made.runtime} {made.engine}; here is {place.engine}"
    return f"verified on {made.cpu}, not on this kind of CPU ({at})"


def remember(bundle: Bundle, outcome: Verification) -> bool:
    """Keep an outcome of this machine. False where it cannot be kept, which is no error."""
    place = Place(outcome.runtime, outcome.engine, outcome.cpu)
    digest = bundle.manifest.sha256
    if not (digest and place.engine and place.cpu and computes_on_cpu(place.runtime)):
        return False
    return user_cache.write(_where(digest, place), msgspec.json.encode(Kept(digest, place, outcome.ok)))


def _this_place(bundle: Bundle) -> Place:
    runtime = bundle.manifest.runtime
    cpu = cpu_kind() if computes_on_cpu(runtime) else None
    return Place(runtime, engine_version(runtime) or "", cpu or "")


def _remembered(digest: str, place: Place) -> bool | None:
    if not (digest and place.engine and place.cpu):
        return None
    raw = user_cache.read(_where(digest, place), limit=_MAX_BYTES)
    if raw is None:
        return None
    try:
        kept: Kept = msgspec.json.decode(raw, type=Kept)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return kept.ok if (kept.bundle, kept.place) == (digest, place) else None


def _where(digest: str, place: Place) -> str:
    key = "\n".join((digest, place.runtime, place.engine, place.cpu))
    return f"{_FOLDER}/{hashlib.sha256(key.encode()).hexdigest()}.json"


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:4])
