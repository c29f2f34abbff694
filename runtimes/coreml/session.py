"""CoreML through coremltools, on a Mac (macOS 15 or later). An iPhone app opens the same packages directly.

Not run on a Mac: the tests run it against a stand-in with coremltools' signatures. Knows bundles and this
engine, no prompts and no text.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Graph, TensorSpec
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.coreml.decoder import STATES, PackageSession, StatefulDecoder
from pam_edge.runtimes.coreml.package_files import check_package

if platform.system() != "Darwin":
    raise EnvironmentProblem(
        "CoreML is a part of macOS and iOS: open this bundle on a Mac (`pam-edge verify` checks it there)"
    )
try:
    import coremltools as ct
except ImportError as e:
    raise EnvironmentProblem(f"coremltools cannot be imported ({e}); pip install 'pam-edge[apple]'") from e

PREFILL, STEP = "prefill", "step"
_DTYPES = {65568: "float32", 65552: "float16", 131104: "int32"}  # ArrayFeatureType.ArrayDataType


class CoremlSession(PackageSession):
    """`Session` of one graph of a bundle, on whatever of CPU, GPU and Neural Engine CoreML chooses.

    Raises UsageError for a graph the bundle lacks, IntegrityError where the engine refuses its package.
    """

    def __init__(self, bundle: Bundle, graph: str, *, threads: int = 0) -> None:
        held = bundle.graph(graph)
        opened = _open(bundle, held, threads, units=ct.ComputeUnit.ALL)
        description = opened.get_spec().description
        _check_signature(held, held.inputs, description.input, {})
        _check_signature(held, held.outputs, description.output, {})
        super().__init__(held, opened)


class CoremlDecoder(StatefulDecoder):
    """`Decoder` of a bundle, with one empty row.

    On CPU and GPU: weights in blocks of 4 bits and a vocabulary of 150,000 are not for the Neural Engine.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        graph, language = bundle.graph("decoder"), bundle.manifest.variant.language
        units = ct.ComputeUnit.CPU_AND_GPU
        prefill = _open(bundle, graph, threads, units=units, function=PREFILL)
        step = _open(bundle, graph, threads, units=units, function=STEP)
        chunk, held = 1, language.max_length
        for name in (PREFILL, STEP):
            function = _function(prefill, name, graph)
            shapes = {given.name: _shape(given) for given in function.input}
            if "embeds" not in shapes or len(shapes["embeds"]) != 3:
                raise _strange(graph, f"function {name} takes no embeds")
            chunk = max(chunk, shapes["embeds"][1])
            inputs = tuple(spec for spec in graph.inputs if name == PREFILL or spec.name != "last")
            _check_signature(graph, inputs, function.input, {"tokens": shapes["embeds"][1]})
            _check_signature(graph, graph.outputs, function.output, {})
            held = min(held, _positions(graph, function, language.layers) - chunk)
        if held < language.max_length:
            raise _strange(
                graph, f"its cache holds {held} positions, the variant reads {language.max_length}"
            )
        table = TokenTable.open(bundle)
        super().__init__(prefill, step, language=language, table=table, chunk=chunk)


def _open(bundle: Bundle, graph: Graph, threads: int, *, units: Any, function: str | None = None) -> Any:
    if threads:
        raise UsageError("CoreML chooses its own threads: leave --threads at 0")
    package = check_package(bundle, graph)
    try:
        return ct.models.MLModel(str(package), compute_units=units, function_name=function)
    except Exception as e:  # coremltools raises RuntimeError, ValueError and Exception alike
        words = " ".join(str(e).split())[:300]
        raise IntegrityError(
            f"CoreML refuses {package}: {words}; it takes macOS 15 or later, else "
            "copy or export the bundle again"
        ) from e


def _function(model: Any, name: str, graph: Graph) -> Any:
    for function in model.get_spec().description.functions:
        if function.name == name:
            return function
    raise _strange(graph, f"it has no function {name}")


def _shape(feature: Any) -> tuple[int, ...]:
    return tuple(feature.type.multiArrayType.shape)


def _positions(graph: Graph, function: Any, layers: int) -> int:
    """How many positions the states of a function hold."""
    held: dict[str, tuple[int, ...]] = {
        state.name: tuple(state.type.stateType.arrayType.shape) for state in function.state
    }
    if held.keys() != set(STATES) or len(set(held.values())) != 1:
        raise _strange(graph, f"its states are {held}")
    shape = held[STATES[0]]
    if len(shape) != 4 or shape[0] != layers:
        raise _strange(graph, f"its states have shape {list(shape)}")
    return shape[2]


def _check_signature(
    graph: Graph, specs: Sequence[TensorSpec], found: Sequence[Any], extents: Mapping[str, int]
) -> None:
    """The package must be the graph that the manifest describes: same names, dtypes and extents."""
    held = {given.name: (_DTYPES.get(given.type.multiArrayType.dataType), _shape(given)) for given in found}
    for spec in specs:
        axes = tuple(extents.get(a, a) if isinstance(a, str) else a for a in spec.axes)
        if held.pop(spec.name, None) != (spec.dtype, axes):
            raise _strange(graph, f"{spec.name} is not {spec.dtype} {list(axes)}")
    if held:
        raise _strange(graph, f"bundle.json does not name its {', '.join(held)}")


def _strange(graph: Graph, what: str) -> IntegrityError:
    return IntegrityError(
        f"the package of {graph.name} is not what bundle.json describes: {what}; export the bundle again"
    )
