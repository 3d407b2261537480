"""What was asked for about opening a MODEL, told from what nobody said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from assay.core.engine import OpenOptions
from assay.engines.base import parse_device


@dataclass(frozen=True)
class OpenRequest:
    """None is what nobody asked for: it becomes what ``base`` says, and in a bundle what that was proved with.

    What was asked for is asked for even where it is the default: fp32 of a bundle proved in bf16 is another precision.
    """

    precision: str | None = None
    device: str | None = None
    threads: int | None = None
    base: OpenOptions = field(default_factory=OpenOptions)

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for, by the name of its field in OpenOptions."""
        given = {"precision": self.precision, "device": self.device, "threads": self.threads}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def options(self) -> OpenOptions:
        """How a MODEL that is no bundle is opened."""
        return replace(self.base, **self.asked)


def plain_device(text: str) -> str:
    """One spelling of a device: ``cuda:0`` is ``cuda``, ``cuda:1`` stays.  Raises BadInput for what is no device."""
    where = parse_device(text)
    return f"{where.kind}:{where.index}" if where.index else where.kind
