"""Whatever a user gives wrong: a clear message, the right exit code, no traceback, nothing half-made."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from command import Result, pam_edge
from exported import Exported
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_bundle import write_signed

from pam_edge.bundle import MANIFEST, Bundle
from pam_edge.errors import IntegrityError
from pam_edge.export.golden import picture
from pam_edge.golden import Golden, GoldenMeta, golden_bytes

if TYPE_CHECKING:
    from golden.seeded import GoldenFolder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "scene.png"
    Image.fromarray(picture(200)[:150]).save(path)
    return path


@pytest.fixture
def bundle(exported: Exported, tmp_path: Path) -> Path:
    return exported.copy(tmp_path / "bundle")


def refused(result: Result, code: int, *words: str) -> None:
    """The command ended as it should: that code, a message with these words, no data, no traceback."""
    assert result.code == code, result
    assert result.clean, result
    assert not result.out.strip(), "what fails gives no data"
    message = result.err.strip().splitlines()[-1]
    assert message.startswith("pam-edge: ") or code == 2, message
    for word in words:
        assert word in result.err, (word, result.err)


def replace(folder: Path, name: str, raw: bytes) -> None:
    """Put other bytes in a file of a bundle and make bundle.json agree, as a bug or an attacker would."""
    (folder / name).write_bytes(raw)
    document = json.loads((folder / MANIFEST).read_text())

    def walk(node: Any) -> None:
        for value in node.values() if isinstance(node, dict) else node:
            if isinstance(value, dict) and value.get("path") == name:
                value |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
            if isinstance(value, (dict, list)):
                walk(value)

    walk(document)
    write_signed(folder, document)


# ---- pictures and prompts


def png(width: int, height: int) -> bytes:
    """A few bytes that claim to be a picture of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("raw", "code", "word"),
    [
        (b"", 6, "scene"),
        (b"just words", 6, "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", 6, "not a picture"),
        (png(60_000, 60_000), 6, "scene"),
        (png(2, 1 << 30), 6, "scene"),
        (None, 6, "scene"),
    ],
    ids=["empty", "text", "postscript", "bomb", "tower", "cut"],
)
def test_what_is_no_picture(
    exported: Exported, photo: Path, tmp_path: Path, raw: bytes | None, code: int, word: str
) -> None:
    path = tmp_path / "scene.png"
    path.write_bytes(photo.read_bytes()[:300] if raw is None else raw)
    refused(pam_edge("run", exported.bundle, path, "--point", "1,1"), code, word)


def test_no_picture_at_all(exported: Exported, tmp_path: Path) -> None:
    refused(pam_edge("run", exported.bundle, tmp_path / "none.png", "--point", "1,1"), 2, "none.png")
    refused(pam_edge("run", exported.bundle, tmp_path, "--point", "1,1"), 2, str(tmp_path))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--point", "200.5,1"],
        ["--point", "-1,1"],
        ["--point=-1,1"],
        ["--point", "1,150.5"],
        ["--point", "nan,1"],
        ["--point", "1,inf"],
        ["--point", "1,2,3"],
        ["--point", ""],
        ["--point", "1e400,1"],
        ["--point", "1,1,0.5"],
        ["--box", "1,1,300,20"],
        ["--box", "20,20,10,10"],
        ["--box", "5,5,5,9"],
        ["--box", "1,2,3"],
        ["--point", "5,5", "--task", "sing"],
        ["--point", "5,5", "--task", "video"],
        ["--point", "5,5", "--task", ""],
        ["--point", "5,5", "--lang", "tlh"],
        ["--point", "5,5", "--ask", "  "],
        ["--point", "5,5", "--ask", "why? " * 2000],
        ["--point", "5,5", "--temperature", "-1"],
        ["--point", "5,5", "--temperature", "nan"],
        ["--point", "5,5", "--top-p", "0"],
        ["--point", "5,5", "--max-tokens", "0"],
        ["--point", "5,5", "--seed", "-1"],
        ["--point", "5,5", "--threads", "-1"],
        ["--point", "5,5", "--out", "overlay.exe"],
    ],
    ids=" ".join,
)
def test_prompts_that_make_no_sense(exported: Exported, photo: Path, words: list[str]) -> None:
    result = pam_edge("run", exported.bundle, photo, *words)
    assert result.code == 2, result
    assert result.clean
    assert "mask:" not in result.out, "refused before slow work"


@pytest.mark.parametrize("words", [["--point", "200.5,1"], ["--box", "1,1,300,20"]], ids=" ".join)
def test_what_lies_outside_is_refused_before_any_graph_is_opened(
    exported: Exported, photo: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("pam_edge.pam.open_session", lambda bundle, graph, **_: opened.append(graph))
    refused(pam_edge("run", exported.bundle, photo, *words), 2, "outside")
    assert opened == []


def test_masks_that_do_not_fit(exported: Exported, photo: Path, tmp_path: Path) -> None:
    Image.new("L", (9, 9), 255).save(tmp_path / "small.png")
    Image.new("L", (200, 150), 0).save(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no")
    for name, code in (("small.png", 2), ("empty.png", 2), ("text.png", 6), ("absent.png", 2)):
        refused(pam_edge("run", exported.bundle, photo, "--mask", tmp_path / name), code)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30) | st.from_regex(r"\A[-+0-9.,einaf ]{1,20}\Z"))
def test_no_text_for_a_point_or_a_box_is_a_bug(text: str) -> None:
    from pam_edge.arguments import read_prompt
    from pam_edge.errors import UsageError

    for points, box in (([text], None), ([], text)):
        try:
            prompt = read_prompt(points, box, None)
        except UsageError:
            continue
        numbers = [n for point in prompt.points for n in point] + list(prompt.box or ())
        assert np.isfinite(numbers).all()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder where not even root may write")
def test_a_picture_has_its_place_before_slow_work(tmp_path: Path) -> None:
    from pam_edge.arguments import check_picture_place
    from pam_edge.errors import EnvironmentProblem

    with pytest.raises(EnvironmentProblem, match=r"cannot write /proc/self/x\.png"):
        check_picture_place(Path("/proc/self/x.png"))
    check_picture_place(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written(
    exported: Exported, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", exported.bundle, photo, "--point", "9,9", "--max-tokens", "1", "--out"]
    refused(pam_edge(*words, tmp_path / "no" / "x.png"), 3, "no folder")
    (tmp_path / "x.png").mkdir()
    refused(pam_edge(*words, tmp_path / "x.png"), 2, "is a folder")
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[:9])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    (tmp_path / "old.png").write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", full)
    result = pam_edge(*words, tmp_path / "old.png")
    assert result.code == 7
    assert "free some space" in result.err
    assert (tmp_path / "old.png").read_bytes() == b"old"
    assert not list(tmp_path.glob("*.tmp"))


# ---- bundles


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


class Bomb:
    """Whoever unpickles this runs code."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


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

    from pam_edge.golden import Told

    def tell(arrays: dict[str, Any], meta: GoldenMeta) -> GoldenMeta:
        told = meta.told or Told(task="brief", lang="en", point=(1.0, 1.0), token_ids=(1,))
        return msgspec.structs.replace(meta, told=msgspec.structs.replace(told, **wrong))

    remake_golden(bundle, tell)
    refused(pam_edge("verify", bundle), 6, "golden file")


def test_golden_headers_that_are_no_python(tmp_path: Path) -> None:
    """numpy hands an odd header to Python's tokenizer, whose own errors must not come out."""
    header = b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '|u1', 'shape': ((1L,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "golden.npz", "w") as archive:
        archive.writestr("meta.npy", header)
    with pytest.raises(IntegrityError, match="damaged"):
        Golden(tmp_path / "golden.npz")


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


# ---- exports


EXPORT = ("export", "--target", "cpu")


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (["--weights", "nowhere"], 2, "nowhere"),
        (["--weights", "random:pam-9t"], 2, "known: nano"),
        (["--weights", "random:"], 2, "known: nano"),
        (["--weights", ""], 2, "empty"),
        (["--weights", "random:nano", "--sam2", "x.pt"], 2, "--sam2"),
        (["--scheme", "int1"], 2, "fp32"),
        (["--seed", "-1"], 2, "seed"),
    ],
)
def test_exports_that_make_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(pam_edge(*EXPORT, *words, "-o", "out"), code, word)
    assert not (tmp_path / "out").exists()


def test_an_unknown_target_lists_the_known(tmp_path: Path) -> None:
    refused(pam_edge("export", "--target", "toaster", "-o", tmp_path / "out"), 2, "known: ", "cpu")


def cut_weights(g: GoldenFolder) -> None:
    path = sorted(g.weights.glob("*.safetensors"))[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lead_outside(g: GoldenFolder) -> None:
    path = g.weights / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "../../etc/passwd")
    path.write_text(json.dumps(index))


def lose_a_key(g: GoldenFolder) -> None:
    path = g.weights / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"].pop("model.norm.weight")
    path.write_text(json.dumps(index))


def plant_code(g: GoldenFolder) -> None:
    g.sam2.write_bytes(pickle.dumps({"model": Bomb(g.sam2.parent / "executed")}))


SPOILT: dict[str, tuple[Callable[[GoldenFolder], object], str]] = {
    "truncated weights": (cut_weights, "safetensors"),
    "an index that leads outside": (lead_outside, "passwd"),
    "a key less": (lose_a_key, "model.norm.weight"),
    "broken config": (lambda g: (g.weights / "config.json").write_text("{"), "config.json"),
    "deep config": (lambda g: (g.weights / "config.json").write_text("[" * 100_000), "config.json"),
    "absurd config": (
        lambda g: (g.weights / "config.json").write_text('{"hidden_size": 1e99}'),
        "config.json",
    ),
    "no tokenizer": (lambda g: (g.weights / "tokenizer.json").unlink(), "token"),
    "broken tokenizer": (lambda g: (g.weights / "tokenizer.json").write_text("{}"), "token"),
    "a pickle with code": (plant_code, "sam2_tiny.pt"),
    "truncated SAM 2": (lambda g: g.sam2.write_bytes(g.sam2.read_bytes()[:5000]), "sam2_tiny.pt"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_weights_that_are_damaged_or_hostile(folder: GoldenFolder, tmp_path: Path, case: str) -> None:
    spoil, word = SPOILT[case]
    spoil(folder)
    words = ["--weights", folder.weights, "--sam2", folder.sam2, "--sam2-config", folder.sam2_config]
    refused(pam_edge(*EXPORT, *words, "-o", tmp_path / "out"), 6, word)
    assert not (tmp_path / "out").exists()
    assert not (folder.sam2.parent / "executed").exists()


def test_places_an_export_must_not_or_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(pam_edge(*EXPORT, "-o", tmp_path / "file"), 2, "is a file")
    refused(pam_edge(*EXPORT, "-o", tmp_path / "file" / "below"), 2, "is a file")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    refused(pam_edge(*EXPORT, "--force", "-o", tmp_path / "photos"), 2, "other files")
    assert (tmp_path / "file").read_text() == "mine"
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["a.jpg"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where not even root may write")
def test_a_place_where_nobody_may_write() -> None:
    refused(pam_edge(*EXPORT, "-o", "/proc/pam-edge"), 3, "/proc/pam-edge")


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
