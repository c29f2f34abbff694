"""Whether a bundle was verified on this kind of CPU: where it was exported, or here by `pam-edge verify`.

A bundle is never written to. `pam-edge verify` keeps its outcome in the user's cache folder: one small file
per bundle, engine version and kind of CPU. A file whose content does not match these is ignored. Applies to
engines that compute on the CPU, if the system reports its kind. Runs no graph.
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


class Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An engine on a kind of CPU; "" is what the system does not tell."""

    runtime: str
    engine: str  # its version
    cpu: str


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One remembered outcome; all but `ok` is what it is found by."""

    bundle: str
    platform: Platform = msgspec.field(name="place")  # its name in files that exist
    ok: bool


@dataclass(frozen=True)
class Here:
    """How a bundle stands on this machine."""

    name: str  # what a command line calls the bundle
    platform: Platform
    made: (
        Platform | None
    )  # where bundle.json says that it was verified; None where it was not, or does not say
    oldest_engine: str
    ok: bool | None  # of `pam-edge verify` on this platform; None if it was not run


def look_up(bundle: Bundle) -> Here:
    """How it stands here. Raises nothing: what cannot be read is as if it were not there."""
    manifest, platform = bundle.manifest, _this_platform(bundle)
    verified, made = manifest.verification, None
    if verified is not None and verified.cpu:
        made = Platform(manifest.runtime, verified.engine, verified.cpu)
    name = builtin.NANO if bundle.folder == builtin.BUNDLE else shlex.quote(str(bundle.folder))
    return Here(name, platform, made, manifest.oldest_engine, _remembered(manifest.sha256, platform))


def warnings(here: Here) -> list[str]:
    """What whoever opens the bundle must know, a line each; none where all is well or nothing is known."""
    platform, found = here.platform, []
    if platform.engine and here.oldest_engine and _number(platform.engine) < _number(here.oldest_engine):
        found.append(
            f"this bundle needs {platform.runtime} {here.oldest_engine} or newer, here is {platform.engine}: "
            f"pip install -U {platform.runtime}"
        )
    if here.ok is False:
        found.append(
            f"this bundle failed `pam-edge verify` on this kind of CPU ({platform.cpu}, {platform.runtime} "
            f"{platform.engine}): do not trust its answers here"
        )
    elif here.ok is None and here.made is not None and platform.cpu not in ("", here.made.cpu):
        found.append(
            f"verified on {here.made.cpu}; this CPU is {platform.cpu}: run `pam-edge verify {here.name}` once"
        )
    return found


def verdict(here: Here) -> str:
    """One line for who asks how it stands: also of another version of the engine, which is no warning."""
    platform, made = here.platform, here.made
    if not platform.cpu:
        return ""
    at = f"{platform.runtime} {platform.engine} on {platform.cpu}"
    if here.ok is not None:
        return f"{'verified' if here.ok else 'FAILED verification'} here ({at})"
    if made is None:
        return f"bundle.json does not say on which kind of CPU it was verified; this is {at}"
    if made == platform:
        return f"verified on this kind of CPU ({at})"
    if made.cpu == platform.cpu:
        return f"verified on this kind of CPU with {made.runtime} {made.engine}; here is {platform.engine}"
    return f"verified on {made.cpu}, not on this kind of CPU ({at})"


def remember(bundle: Bundle, outcome: Verification) -> bool:
    """Keep an outcome of this machine. False where it cannot be kept, which is no error."""
    platform = Platform(outcome.runtime, outcome.engine, outcome.cpu)
    digest = bundle.manifest.sha256
    if not (digest and platform.engine and platform.cpu and computes_on_cpu(platform.runtime)):
        return False
    return user_cache.write(_where(digest, platform), msgspec.json.encode(Kept(digest, platform, outcome.ok)))


def _this_platform(bundle: Bundle) -> Platform:
    runtime = bundle.manifest.runtime
    cpu = cpu_kind() if computes_on_cpu(runtime) else None
    return Platform(runtime, engine_version(runtime) or "", cpu or "")


def _remembered(digest: str, platform: Platform) -> bool | None:
    if not (digest and platform.engine and platform.cpu):
        return None
    raw = user_cache.read(_where(digest, platform), limit=_MAX_BYTES)
    if raw is None:
        return None
    try:
        kept: Kept = msgspec.json.decode(raw, type=Kept)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return kept.ok if (kept.bundle, kept.platform) == (digest, platform) else None


def _where(digest: str, platform: Platform) -> str:
    key = "\n".join((digest, platform.runtime, platform.engine, platform.cpu))
    return f"{_FOLDER}/{hashlib.sha256(key.encode()).hexdigest()}.json"


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:4])
