"""Bundles that are damaged or hostile: a clear message, the right exit code, no traceback."""

from __future__ import annotations

import errno
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bomb import Bomb
from command import pam_edge, refused
from exported import Exported
from small_bundle import replace, write_signed

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.golden import Golden, GoldenMeta, golden_bytes
from pam_edge.bundle.manifest import MANIFEST
from pam_edge.core.errors import IntegrityError

if TYPE_CHECKING:
    pass


@pytest.mark.parametrize("verb", ["run", "inspect", "verify"])
def test_no_bundle(tmp_path: Path, photo: Path, verb: str) -> None:
    rest = [photo, "--point", "1,1"] if verb == "run" else []
    refused(pam_edge(verb, tmp_path / "nowhere", *rest), 2, "no bundle")
    refused(pam_edge(verb, photo, *rest), 2)
    refused(pam_edge(verb, tmp_path, *rest), 6, "unfinished export")


@pytest.mark.parametrize(
    "raw",
    [b"", b'{"schema": 2}', b"[" * 100_000, b'{"schema":1,"a":' + b"[" * 100_000],
    ids=["empty", "schema", "deep", "deeper"],
)
def test_a_manifest_that_is_none(bundle: Path, raw: bytes) -> None:
    (bundle / MANIFEST).write_bytes(raw)
    for verb in ("inspect", "verify"):
        refused(pam_edge(verb, bundle), 6, MANIFEST)


def test_one_flipped_bit_in_any_file(bundle: Path, photo: Path) -> None:
    """Found by the checksum, in the middle and at the end, and the file is named."""
    for path in sorted(bundle.iterdir()):
        whole = path.read_bytes()
        for at in (len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            refused(pam_edge("verify", bundle), 6, path.name)
        path.write_bytes(whole)
    assert pam_edge("verify", bundle).code == 0


@pytest.mark.parametrize(
    "name", ["image_encoder.onnx", "mask_decoder.onnx", "perceiver.onnx", "decoder.onnx"]
)
def test_flipped_bytes_that_no_checksum_catches(bundle: Path, photo: Path, name: str) -> None:
    """A graph file damaged and re-signed, or run with --no-check: an error or an answer, never a crash."""
    whole = (bundle / name).read_bytes()
    rng = np.random.default_rng(0)
    codes = set()
    for at in [0, 3, *rng.integers(len(whole), size=6).tolist(), *rng.integers(400, size=6).tolist()]:
        replace(bundle, name, whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        result = pam_edge("run", bundle, photo, "--point", "70,80", "--max-tokens", "1", "--no-check")
        assert result.clean, (at, result)
        codes.add(result.code)
    assert codes <= {0, 3, 4, 6, 7}
    assert 6 in codes


def perturbed(raw: bytes) -> bytes:
    """An ONNX file with one of its weights changed: valid, loadable, wrong."""
    import onnx

    model = onnx.load_from_string(raw)
    largest = max((t for t in model.graph.initializer if t.data_type == 1), key=lambda t: len(t.raw_data))
    values = np.frombuffer(largest.raw_data, np.float32).copy()
    values *= 1.5
    largest.raw_data = values.tobytes()
    return model.SerializeToString()


@pytest.mark.parametrize("graph", ["image_encoder", "mask_decoder", "perceiver", "decoder"])
def test_wrong_numbers_are_found_and_the_graph_named(bundle: Path, graph: str) -> None:
    """Weights changed and re-signed: every checksum holds, only verification can tell."""
    if graph == "decoder":
        values = np.fromfile(bundle / "decoder.bin", np.float32)
        values[values.size // 3 : values.size // 2] *= 1.2
        replace(bundle, "decoder.bin", values.tobytes())
    else:
        replace(bundle, f"{graph}.onnx", perturbed((bundle / f"{graph}.onnx").read_bytes()))
    result = pam_edge("verify", bundle)
    assert result.code == 4, result
    assert f"numbers are off in {graph}" in result.err
    assert "OFF" in result.out
    first = next(line for line in result.out.splitlines() if line.endswith("OFF"))
    assert first.startswith(graph), "the first graph that is off is the one to look at"
    assert json.loads(pam_edge("verify", bundle, "--json").out)["ok"] is False


def test_weights_that_are_no_numbers(bundle: Path, photo: Path) -> None:
    values = np.fromfile(bundle / "decoder.bin", np.float32)
    values[values.size // 3 : values.size // 2] = np.nan
    replace(bundle, "decoder.bin", values.tobytes())
    result = pam_edge("verify", bundle)
    assert (result.code, "no number" in result.out) == (4, True)
    document = json.loads(pam_edge("verify", bundle, "--json").out)
    assert document["ok"] is False
    edit_manifest(
        bundle, lambda d: d.update(verification={k: document[k] for k in ("runtime", "host", "checks")})
    )
    result = pam_edge("run", bundle, photo, "--point", "70,80")
    assert (result.code, "failed its verification" in result.err) == (4, True)


def test_graphs_may_not_read_files_elsewhere(bundle: Path, photo: Path, tmp_path: Path) -> None:
    import onnx

    (tmp_path / "secret.bin").write_bytes((bundle / "decoder.bin").read_bytes())
    model = onnx.load(bundle / "decoder.onnx", load_external_data=False)
    for place in ("../secret.bin", str(tmp_path / "secret.bin"), "golden.npz"):
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location" and entry.value != "embedding.bin":
                    entry.value = place
        replace(bundle, "decoder.onnx", model.SerializeToString())
        result = pam_edge("verify", bundle)
        assert result.code == 6, result
        assert result.clean


def edit_manifest(folder: Path, change: Callable[[Any], None]) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    write_signed(folder, document)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["graphs"].pop(0),
        lambda d: d["graphs"].pop(3),
        lambda d: d["graphs"][1]["inputs"].pop(0),
        lambda d: d["graphs"][0]["outputs"][0].update(name="surprise"),
        lambda d: d["graphs"][0]["inputs"][0].update(axes=[1, 3, 64, 64]),
        lambda d: d["graphs"][2]["inputs"][0].update(dtype="int64"),
        lambda d: d["variant"]["vision"].update(image_size=2048),
        lambda d: d["variant"]["language"].update(max_length=1 << 20),
        lambda d: d["variant"]["language"].update(layers=1024),
        lambda d: d["variant"]["language"].update(kv_heads=6),
        lambda d: d["prompts"].update(after="{task} {task}"),
        lambda d: d["prompts"].update(after="{task.__class__.__mro__}{task}"),
        lambda d: d["prompts"]["tasks"]["en"].update(brief=""),
    ],
    ids=[
        *(
            "no image encoder",
            "no decoder",
            "no input",
            "other output",
            "other size",
            "other type",
            "huge picture",
        ),
        *("huge cache", "many layers", "other heads", "task twice", "format string", "empty task"),
    ],
)
def test_manifests_that_do_not_fit_their_files(
    bundle: Path, photo: Path, change: Callable[[Any], None]
) -> None:
    """Well-formed, signed, and wrong: an error or an honest answer, never a bug."""
    edit_manifest(bundle, change)
    for words in (
        ["run", bundle, photo, "--point", "70,80", "--max-tokens", "2"],
        ["verify", bundle],
        ["inspect", bundle],
    ):
        result = pam_edge(*words)
        assert result.clean, result


def test_golden_files_that_are_hostile(bundle: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    pickled, bomb = io.BytesIO(), io.BytesIO()
    np.savez(pickled, meta=np.array([Bomb(marker)], dtype=object))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.npy", bytes(300 << 20))
    header = (
        b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976,), }".ljust(117)
        + b"\n"
    )
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:
        archive.writestr("meta.npy", header)
    whole = (bundle / "golden.npz").read_bytes()
    for raw in (pickled.getvalue(), bomb.getvalue(), huge.getvalue(), b"PK", b"", whole[: len(whole) // 2]):
        replace(bundle, "golden.npz", raw)
        refused(pam_edge("verify", bundle), 6, "golden.npz")
    assert not marker.exists()


@pytest.mark.parametrize(
    "key", ["picture", "click/point_coords", "decoder/embeds", "decoder/tokens", "decoder/top_ids"]
)
def test_golden_files_with_entries_of_another_shape(bundle: Path, key: str) -> None:
    golden = Golden(bundle / "golden.npz")
    arrays = {name: value for name, value in golden._arrays.items() if name != "meta"}
    for value in (arrays[key][None], arrays[key].astype(np.float64), arrays[key][:0], None):
        changed = (
            {**arrays, key: value} if value is not None else {k: v for k, v in arrays.items() if k != key}
        )
        replace(bundle, "golden.npz", golden_bytes(changed, golden.meta))
        result = pam_edge("verify", bundle)
        assert result.code == 6, (key, result)
        assert result.clean
    far = {**arrays, "decoder/tokens": arrays["decoder/tokens"] + 10**6}
    replace(bundle, "golden.npz", golden_bytes(far, golden.meta))
    refused(pam_edge("verify", bundle), 6, "vocabulary")


def remake_golden(bundle: Path, change: Callable[[dict[str, Any], GoldenMeta], GoldenMeta]) -> None:
    golden = Golden(bundle / "golden.npz")
    arrays = {name: value for name, value in golden._arrays.items() if name != "meta"}
    meta = change(arrays, golden.meta)
    replace(bundle, "golden.npz", golden_bytes(arrays, meta))


def test_golden_files_that_know_only_the_best_token(bundle: Path) -> None:
    def narrow(arrays: dict[str, Any], meta: GoldenMeta) -> GoldenMeta:
        for key in ("decoder/top_ids", "decoder/top"):
            arrays[key] = arrays[key][:, :1]
        return meta

    remake_golden(bundle, narrow)
    refused(pam_edge("verify", bundle), 6, "second-best")


@pytest.mark.parametrize("wrong", [{"task": "sing"}, {"point": (1e6, 1.0)}, {"point": (-1.0, 1.0)}], ids=str)
def test_golden_files_that_tell_of_what_cannot_be_asked(bundle: Path, wrong: dict[str, Any]) -> None:
    import msgspec

    from pam_edge.bundle.golden import RecordedAnswer

    def tell(arrays: dict[str, Any], meta: GoldenMeta) -> GoldenMeta:
        answer = meta.answer or RecordedAnswer(task="brief", lang="en", point=(1.0, 1.0), token_ids=(1,))
        return msgspec.structs.replace(meta, answer=msgspec.structs.replace(answer, **wrong))

    remake_golden(bundle, tell)
    refused(pam_edge("verify", bundle), 6, "golden file")


def test_golden_headers_that_are_no_python(tmp_path: Path) -> None:
    """numpy hands an odd header to Python's tokenizer, whose own errors must not come out."""
    header = b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '|u1', 'shape': ((1L,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "golden.npz", "w") as archive:
        archive.writestr("meta.npy", header)
    with pytest.raises(IntegrityError, match="damaged"):
        Golden(tmp_path / "golden.npz")


def test_golden_files_without_a_case_check_nothing_and_are_refused(bundle: Path) -> None:
    import msgspec

    remake_golden(bundle, lambda arrays, meta: msgspec.structs.replace(meta, cases=()))
    refused(pam_edge("verify", bundle), 6, "cases")


def test_inputs_without_slots(bundle: Path, photo: Path) -> None:
    document = json.loads((bundle / MANIFEST).read_text())
    (graph,) = (graph for graph in document["graphs"] if graph["name"] == "mask_decoder")
    (points,) = (spec for spec in graph["inputs"] if spec["name"] == "point_coords")
    points["axes"] = [1]
    write_signed(bundle, document)
    refused(pam_edge("run", bundle, photo, "--point", "9,9"), 6, "point_coords")
    refused(pam_edge("verify", bundle), 6, "point_coords")


def test_golden_cases_that_do_not_exist(bundle: Path) -> None:
    import msgspec

    golden = Golden(bundle / "golden.npz")
    meta: GoldenMeta = msgspec.structs.replace(golden.meta, cases=("click", "nowhere"))
    replace(
        bundle, "golden.npz", golden_bytes({k: v for k, v in golden._arrays.items() if k != "meta"}, meta)
    )
    refused(pam_edge("verify", bundle), 6, "nowhere/point_coords")


@pytest.mark.parametrize("raw", [b"", b"{}", b"[" * 50_000, b'{"model": {"type": "BPE"}}', b"\xff\xfe"])
def test_tokenizers_that_are_none(bundle: Path, photo: Path, raw: bytes) -> None:
    replace(bundle, "tokenizer.json", raw)
    refused(pam_edge("run", bundle, photo, "--point", "9,9"), 6, "tokenizer")


def test_a_bundle_folder_that_cannot_be_read(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader without permission meets it (a test may run as root, who is never refused)."""
    opened = Path.open

    def denied(self: Path, *args: Any, **named: Any) -> Any:
        if self.name == "golden.npz":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, *args, **named)

    monkeypatch.setattr(Path, "open", denied)
    refused(pam_edge("verify", bundle), 3, "golden.npz", "Permission denied")


def test_bundles_open_again_after_all_that(exported: Exported) -> None:
    """No test above wrote into what they all share."""
    assert Bundle.open(exported.bundle).manifest.verification is not None
