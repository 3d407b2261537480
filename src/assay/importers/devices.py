"""Accelerators by the names people give them, and what is known of their cards.

``dies_per_card`` above 1 means that tools measure one die, while a person who compares cards
multiplies.  Ascend710 is the name Ascend310P had before its release; ``--soc_version`` still says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """``kind`` is assay's device word (cpu, cuda, npu); ``spelling`` is a regular expression.

    A ``numeric`` device goes by a bare number (310), which counts only in texts about such devices.
    """

    name: str
    kind: str
    spelling: str
    dies_per_card: int = 1
    numeric: bool = False


_GPUS = r"T4|P4|P40|P100|V100S?|A10G?|A16|A30|A40|A100|A800|L4|L20|L40S?|H20|H100|H200|H800|B100|B200|GB200"

# The longer name comes first: 310P must not be read as 310.
DEVICES: tuple[Device, ...] = (
    Device("310B", "npu", r"(?:Ascend[ -]?)?310B\d?"),
    Device("310P", "npu", r"(?:Ascend[ -]?)?310P\d?|Ascend[ -]?710"),
    Device("910B", "npu", r"(?:Ascend[ -]?)?910B\d?"),
    Device("310", "npu", r"Ascend[ -]?310", dies_per_card=4),
    Device("910", "npu", r"Ascend[ -]?910A?"),
    Device("310", "npu", r"310", dies_per_card=4, numeric=True),
    Device("310P", "npu", r"710", numeric=True),
    Device("910", "npu", r"910A?", numeric=True),
    Device(
        "", "cuda", rf"(?:RTX|GTX)[ _-]?\d{{4}}(?:[ _-]?(?:Ti|SUPER))?|[1-5]0[5-9]0 ?Ti|(?:Tesla[ _-]?)?(?:{_GPUS})"
    ),
    Device("CPU", "cpu", r"CPU|Xeon|EPYC"),
)
_BEFORE = r"(?<![0-9A-Za-z.=/_,-])"
_AFTER = r"(?![0-9A-Za-z_]|[.,]\d|-\d|/s|\s*(?:qps|fps|ms|s|us|MB|MiB|GB|GiB|KB|samples|images|img|W|steps|epochs|%)\b)"
_PATTERNS = [(device, re.compile(f"{_BEFORE}({device.spelling}){_AFTER}", re.I)) for device in DEVICES]
_ABOUT_NUMERIC = re.compile(r"ascend|昇腾|\bCANN\b|\bnpu\b|npu-smi|\batc\b|\bAtlas ?\d|310P", re.I)
_GENERIC = re.compile(r"(?<![0-9A-Za-z_./=-])(GPU|NPU)(?![0-9A-Za-z_])", re.I)


@dataclass(frozen=True)
class Mention:
    """A device named in a text: its one name, its facts, and where."""

    name: str
    kind: str
    dies_per_card: int
    start: int
    end: int


def speaks_of_numeric(text: str) -> bool:
    """Whether a document is about devices that go by bare numbers."""
    return bool(_ABOUT_NUMERIC.search(text))


def mentions(text: str, numeric: bool = True) -> list[Mention]:
    """Every device named in ``text``, in order.  A CPU counts only where no accelerator is named."""
    found: list[Mention] = []
    for device, pattern in _PATTERNS:
        if device.numeric and not numeric:
            continue
        for match in pattern.finditer(text):
            if not any(m.start < match.end() and match.start() < m.end for m in found):
                name = device.name or _tidy(match[1])
                found.append(Mention(name, device.kind, device.dies_per_card, match.start(), match.end()))
    if any(m.kind != "cpu" for m in found):
        found = [m for m in found if m.kind != "cpu"]
    return sorted(found, key=lambda m: m.start)


def named(text: str, numeric: bool = True) -> list[str]:
    """The distinct device names in ``text``, in the order of their first mention."""
    return list(dict.fromkeys(m.name for m in mentions(text, numeric)))


def generic(text: str) -> str | None:
    """``cuda`` or ``npu`` where a text names only the sort of device."""
    match = _GENERIC.search(text)
    if match is None:
        return None
    return "cuda" if match[1].lower() == "gpu" else "npu"


def canonical(name: str) -> str:
    """One name for a device: ``Ascend710`` and ``310P3`` are ``310P``; an unknown name stays as it is."""
    found = named(name)
    return found[0] if len(found) == 1 else name


def kind_of(name: str) -> str | None:
    """cpu, cuda or npu; None for a device that is not known here."""
    found = mentions(name)
    return found[0].kind if found else None


def dies_per_card(name: str | None) -> int:
    """How many dies the usual card of this device carries; 1 where nothing else is known."""
    found = mentions(name) if name else []
    return found[0].dies_per_card if found else 1


def _tidy(text: str) -> str:
    bare = re.sub(r"^Tesla[ _-]?", "", text, flags=re.I)
    return re.sub(r"[\s_-]+", "", bare).upper().replace("TI", "Ti")
