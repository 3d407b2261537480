"""The inner tensors of a PyTorch module, under the names its ONNX export gives them.

torch's exporter names a tensor after the node of the exported program that makes it, so running that
program node by node gives the values to compare an ONNX file's inner tensors with.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from assay.core.errors import EngineFailed
from assay.core.forward import passed_by_name
from assay.core.tensors import Array, Feed, Signature
from assay.export.flatten import flatten
from assay.export.reference import to_array, to_tensor
from assay.graph.quiet import quiet


class ModuleTensors:
    """Runs the exported program of a module and gives inner tensors by name.

    Raises EngineFailed when the module cannot be exported as a program for ``feed``.
    """

    def __init__(self, module: Any, signature: Signature, feed: Feed) -> None:
        import torch

        self._signature = signature
        module = module.eval() if getattr(module, "training", False) else module
        given = self._tensors(feed)
        named = (
            dict(zip(signature.input_names, given, strict=True))
            if passed_by_name(module, signature.input_names)
            else {}
        )
        try:
            with quiet(("torch",)), torch.no_grad():
                self._program = torch.export.export(module, () if named else given, named or None).module()
        except Exception as error:  # torch.export raises many kinds, and all mean the same here
            said = " ".join(str(error).split())[:200]
            raise EngineFailed(
                f"the module cannot be run as an exported program: {type(error).__name__}: {said}"
            ) from error
        graph = self._program.graph
        self.names = tuple(n.name for n in graph.nodes if n.op in ("call_function", "call_method", "call_module"))

    def run(self, feed: Feed) -> dict[str, Array]:
        """The program's outputs, by the signature's names."""
        return self._outputs(self._interpret(feed, None))

    def values(self, feed: Feed, names: Collection[str]) -> dict[str, Array]:
        """The inner tensors (and outputs) named; those that are no tensors are left out."""
        kept: dict[str, Array] = {}

        def keep(name: str, value: Any) -> None:
            import torch

            if name in names and isinstance(value, torch.Tensor):
                kept[name] = to_array(value, name)

        found = self._outputs(self._interpret(feed, keep))
        return kept | {n: a for n, a in found.items() if n in names}

    def _tensors(self, feed: Feed) -> tuple[Any, ...]:
        return tuple(to_tensor(feed[n]) for n in self._signature.input_names)

    def _interpret(self, feed: Feed, keep: Callable[[str, Any], None] | None) -> Any:
        import torch

        class Watching(torch.fx.Interpreter):  # type: ignore[misc]
            def run_node(self, n: Any) -> Any:
                value = super().run_node(n)
                if keep is not None:
                    keep(n.name, value)
                return value

        with torch.no_grad(), quiet(("torch",)):
            return Watching(self._program).run(*self._tensors(feed))

    def _outputs(self, value: Any) -> dict[str, Array]:
        names = self._signature.output_names
        return {name: to_array(t, name) for name, (_, t) in zip(names, flatten(value), strict=True)}
