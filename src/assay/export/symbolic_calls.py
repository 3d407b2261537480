"""Which ONNX operators each ATen operator became in torch's TorchScript exporter, while it runs."""

from __future__ import annotations

import contextlib
import importlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from assay.graph.mapping import Mapped

_MODULE = "torch.onnx._internal.torchscript_exporter.utils"
_FUNCTION = "_run_symbolic_function"
_NO_OPERATORS = ("Constant", "Identity")  # values and names, not computation


class SymbolicCalls:
    """What was seen: one entry per ATen operator and decomposition, in order of appearance.

    Arithmetic on sizes is left out: it computes nothing, and most of it is folded or dropped later.
    """

    def __init__(self) -> None:
        self._counted: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def add(self, kind: str, made: list[str]) -> None:
        """``kind`` is the TorchScript node's (``aten::relu``), ``made`` the kinds of the nodes it became."""
        operators = tuple(name.partition("::")[2] for name in made)
        operators = tuple(name for name in operators if name not in _NO_OPERATORS)
        if kind.startswith(("prim::", "onnx::")) or not operators:
            return
        if kind.endswith("_") and not kind.endswith("__"):
            kind = kind[:-1]  # in place: the exporter takes relu_ for relu
        self._counted[kind.replace("::", "."), operators] += 1

    def mapping(self) -> tuple[Mapped, ...]:
        return tuple(Mapped(aten, operators, calls, ()) for (aten, operators), calls in self._counted.items())


def _is_size(kind: str, made: list[Any]) -> bool:
    """Whether whole numbers for shapes come out: a single one, or what ``size`` and ``slice`` give of them."""
    if not made or made[-1].outputsSize() != 1:
        return False
    given = made[-1].output().type()
    if getattr(given, "scalarType", str)() != "Long":
        return False
    return given.dim() == 0 or (given.dim() == 1 and kind in ("aten::size", "aten::slice"))


@contextlib.contextmanager
def recorded() -> Iterator[SymbolicCalls]:
    """Look on while the exporter translates.

    The exporter's C++ calls one Python function for every node and looks it up anew each time; it has no
    hook.  Where torch's internals moved nothing is recorded, and the export is as it was.
    """
    calls = SymbolicCalls()
    try:
        module = importlib.import_module(_MODULE)
        translate: Any = getattr(module, _FUNCTION)
    except (ImportError, AttributeError):
        yield calls
        return

    def watched(graph: Any, block: Any, node: Any, *rest: Any, **named: Any) -> Any:
        new_nodes = named.get("new_nodes", rest[3] if len(rest) > 3 else None)
        before = len(new_nodes) if isinstance(new_nodes, list) else 0
        found = translate(graph, block, node, *rest, **named)
        if isinstance(new_nodes, list) and not _is_size(node.kind(), new_nodes[before:]):
            calls.add(node.kind(), [made.kind() for made in new_nodes[before:]])
        return found

    setattr(module, _FUNCTION, watched)
    try:
        yield calls
    finally:
        setattr(module, _FUNCTION, translate)
