"""The API page, from signatures and docstrings; nothing is imported, so nothing needs to be installed for it."""

from __future__ import annotations

import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

SRC = Path(__file__).resolve().parents[2] / "src"
NOUNS = {
    "What a session takes and gives": (
        "core.engine.Session",
        "core.engine.OpenOptions",
        "core.engine.Attestation",
        "core.tensors.Signature",
        "core.tensors.TensorSpec",
    ),
    "What a run gives": (
        "core.record.Record",
        "core.record.Figure",
        "core.verdict.Verdict",
        "core.verdict.Reason",
    ),
    "What assay.export_onnx and assay.throughput give": (
        "export.export.Exported",
        "job.bench.many.ThroughputTable",
    ),
    "Settings of assay.run and assay.export_onnx": (
        "export.options.ExportOptions",
        "sources.options.SourceOptions",
        "job.request.Int8",
        "tasks.tensor",
    ),
    "Limits: the tables of a policy": (
        "judge.policy.NumericPolicy",
        "judge.policy.AccuracyPolicy",
        "judge.policy.LatencyPolicy",
        "judge.policy.ThroughputPolicy",
        "judge.policy.MemoryPolicy",
        "judge.policy.UncheckedPolicy",
        "judge.policy.ObjectivePolicy",
        "judge.ratio_policy.SpeedRatio",
        "judge.accuracy_rule.AccuracyDrop",
    ),
    "What can be added": (
        "core.engine.Engine",
        "core.engine.BuildOptions",
        "core.engine.Candidate",
        "core.artifact.Artifact",
        "sources.options.Source",
        "core.model.Model",
        "core.dataset.Reader",
        "core.dataset.Item",
        "core.dataset.Task",
        "core.dataset.Scored",
        "core.sample.Sample",
        "core.transform.Transform",
        "core.workload.Workload",
        "core.workload.Clients",
        "core.workload.Arrivals",
        "importers.imported.Importer",
        "importers.imported.Imported",
        "importers.imported.Hints",
    ),
}
TITLES = {"tensor": "A metric of your own"}
"""Of modules whose docstring is the page's text."""
PLAIN = ("to_json", "from_json")
INTRODUCTION = """\
# Python API

`import assay` is cheap: what a name needs is imported when it is used. Arrays are numpy's; shapes are written
`(batch, channels, height, width)`; times are in seconds and sizes in bytes, with the unit in the name (`timeout_s`,
`size_bytes`) or in the type (`Seconds`, `Bytes`, `PerSecond`: plain numbers); a rate is samples per second. What is
raised is one of [the errors](#errors), each with what to do. What has `to_json` is read back by `from_json`.

"""


@cache
def package() -> Any:
    """The package as griffe reads it: source only."""
    import griffe

    return griffe.load("assay", search_paths=[str(SRC)], allow_inspection=False)


def api_page() -> str:
    """The whole page as Markdown."""
    parts = [INTRODUCTION, "## assay\n\n", *(_entry(f"assay.{name}", where) for name, where in _public())]
    for title, names in NOUNS.items():
        parts.append(f"## {title}\n\n")
        parts += [_entry(f"assay.{name}", package()[name]) for name in names]
    return "".join([*parts, _errors()])


def _public() -> list[tuple[str, Any]]:
    """Every public name with what it stands for, from ``assay.__all__`` and its table."""
    from assay import _PUBLIC, __all__

    return [(name, package()[f"{_PUBLIC[name]}.{name}".removeprefix("assay.")]) for name in __all__ if name in _PUBLIC]


def _entry(name: str, item: Any) -> str:
    item = item.final_target if item.is_alias else item
    if item.is_module:
        return f"### {TITLES[item.name]}\n\n{_prose(item)}"
    head = f"### {name}\n\n" + _code(_class_line(name, item) if item.is_class else _call(name, item))
    return head + _prose(item) + (_members(item) if item.is_class else "")


def _class_line(name: str, item: Any) -> str:
    bases = ", ".join(str(base) for base in item.bases)
    return f"class {name}({bases})" if bases else f"class {name}"


def _call(name: str, item: Any) -> str:
    """A function's signature, one parameter a line where it would be long."""
    parts, star = [], False
    for parameter in item.parameters:
        if parameter.name in ("self", "cls"):
            continue
        kind = parameter.kind.value
        if kind == "keyword-only" and not star:
            parts.append("*")
            star = True
        prefix = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        star = star or prefix == "*"
        annotation = f": {parameter.annotation}" if parameter.annotation is not None else ""
        default = "" if parameter.default is None or prefix else f" = {parameter.default}"
        parts.append(f"{prefix}{parameter.name}{annotation}{default}")
    gives = f" -> {item.returns}" if item.returns is not None else ""
    line = f"{name}({', '.join(parts)}){gives}"
    return line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(parts) + f",\n){gives}"


def _members(item: Any) -> str:
    """A class's fields in one block, then its properties and methods."""
    fields, rest = [], []
    for name, member in item.members.items():
        if name.startswith("_") or member.is_alias:
            continue
        if member.is_attribute and "property" in member.labels:
            said = f". {_prose(member).strip()}" if member.docstring else ""
            rest.append(f"**`{name}`**: `{member.annotation}`{said}\n\n")
        elif member.is_attribute and (member.annotation is not None or "class-attribute" in member.labels):
            value = f" = {member.value}" if member.value is not None else ""
            kind = f": {member.annotation}" if member.annotation is not None else ""
            said = f"  # {_first(member)}" if member.docstring else ""
            fields.append(f"{name}{kind}{value}{said}")
        elif member.is_function and (member.docstring or name not in PLAIN):
            rest.append(_code(_call(name, member)) + _prose(member))
    return (_code("\n".join(fields)) if fields else "") + "".join(rest)


def _errors() -> str:
    """The tree of errors, drawn in its module's docstring, and every leaf that says more."""
    module = package()["core.errors"]
    said = [f"**`{name}`**: {_prose(item).strip()}\n\n" for name, item in module.classes.items() if item.docstring]
    return "## Errors\n\n" + _markdown(module.docstring.value) + "\n\n" + "".join(said)


def _first(item: Any) -> str:
    return str(" ".join(item.docstring.value.split()))


def _prose(item: Any) -> str:
    return _markdown(item.docstring.value) + "\n\n" if item.docstring else ""


def _markdown(text: str) -> str:
    """A docstring as Markdown: ``::`` and an indented block is code, double backticks are code too."""

    def literal(match: re.Match[str]) -> str:
        said = match[1].removesuffix(":")
        return f"{said and said + ':'}\n\n```text\n{textwrap.dedent(match[2]).strip()}\n```\n\n"

    text = re.sub(r"^(.*?):\n\n((?: {4}.*\n?|\n)+)", literal, text, flags=re.MULTILINE)
    return re.sub(r"(?<!`)``(?!`)", "`", text).strip()


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n\n"


if __name__ == "__main__":
    print(api_page())
