"""Operators an engine does not take: named with their nodes and the lines of Python they were exported from."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import EngineFailed

if TYPE_CHECKING:
    from assay.graph.describe import NodeDescription

Operator = tuple[str, str]
"""(domain, type); ONNX's own domain is empty."""

_MOST_NODES = 3
_ONNX = ("", "ai.onnx")
_LISTED = re.compile(r"(?:No conversion rule found for operations|Conversion is failed for):\s*([^\n]+)")
_UNREGISTERED = re.compile(r"([\w.]+):(\w+)\(-?\d+\) is not a registered function/op")
_UNKNOWN = re.compile(r"No Op registered for (\w+) with domain_version")
_NO_KERNEL = re.compile(r"Could not find an implementation for (\w+)\(\d+\) node with name '([^']*)'")


def unsupported(engine: str, onnx: Path, wanted: Callable[[NodeDescription], bool], said: str) -> EngineFailed | None:
    """The error that names the ``wanted`` nodes of ``onnx`` by operator; None where there are none.

    ``said`` is what there is to say of them, such as ``has no kernel for``.
    """
    from assay.graph.describe import describe

    found: dict[str, list[str]] = {}
    for node in describe(onnx).nodes:
        if wanted(node):
            where = f"{node.name!r}" + (f" from {node.source}" if node.source else "")
            found.setdefault(f"{node.domain}:{node.op}" if node.domain not in _ONNX else node.op, []).append(where)
    if not found:
        return None
    texts = []
    for name, nodes in sorted(found.items()):
        more = f" and {len(nodes) - _MOST_NODES} more" if len(nodes) > _MOST_NODES else ""
        texts.append(f"{name} ({', '.join(nodes[:_MOST_NODES])}{more})")
    return EngineFailed(
        f"{engine} {said} {'; '.join(texts)}",
        remedy="export it as operators of ONNX's own (--custom-op FILE.py), or try another engine",
    )


def refuse_unknown(engine: str, onnx: Path, known: Collection[Operator], local: Collection[Operator]) -> None:
    """Raises EngineFailed naming every node whose operator is neither ``known`` nor a function of the file itself."""
    error = unsupported(
        engine,
        onnx,
        lambda n: _operator(n) not in known and _operator(n) not in local,
        "does not know",
    )
    if error is not None:
        raise error


def explained(engine: str, onnx: Path, error: BaseException) -> EngineFailed | None:
    """A library's refusal of operators as ours; None for an error that is about something else."""
    text = str(error)
    kernel = _NO_KERNEL.search(text)
    if kernel is not None:
        op, name = kernel.groups()
        said = "has no implementation, in the types of this graph, for"
        return unsupported(engine, onnx, lambda n: n.op == op and n.name == name, said)
    refused = set(_named(text))
    if not refused:
        return None
    return unsupported(engine, onnx, lambda n: _operator(n) in refused, "does not know")


def _named(text: str) -> Iterator[Operator]:
    for domain, op in _UNREGISTERED.findall(text):
        yield _plain(domain), op
    for op in _UNKNOWN.findall(text):
        yield "", op
    for listed in _LISTED.findall(text):
        for name in re.split(r"[,\s]+", listed.strip()):
            domain, _, op = name.rpartition(".")
            yield _plain(domain), op


def _operator(node: NodeDescription) -> Operator:
    return _plain(node.domain), node.op


def _plain(domain: str) -> str:
    return "" if domain in _ONNX else domain
