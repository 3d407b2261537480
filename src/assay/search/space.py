"""The space that is searched: points along the axes of each family, and which points lie next to each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Layout:
    """How the cores are used: ``calls`` run side by side (streams, instances), each with ``threads`` threads."""

    calls: int
    threads: int

    def __str__(self) -> str:
        return f"{self.calls}×{self.threads} threads"


@dataclass(frozen=True)
class Form:
    """How the graph is opened: with its shapes fixed (``static``) or free, and with which options of the engine."""

    static: bool = False
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return ", ".join(["static" if self.static else "free", *(f"{k}={v}" for k, v in self.options)])


@dataclass(frozen=True)
class Point:
    """One configuration.  ``family`` names the engine and the precision."""

    family: str
    batch: int
    layout: Layout
    form: Form = Form()

    def __str__(self) -> str:
        return f"{self.family}, batch {self.batch}, {self.layout}, {self.form}"


@dataclass(frozen=True)
class Family:
    """All points of one engine in one precision.  Layouts and forms have the usual one first; batches rise."""

    name: str
    batches: tuple[int, ...]
    layouts: tuple[Layout, ...]
    forms: tuple[Form, ...] = (Form(),)

    def __len__(self) -> int:
        return len(self.batches) * len(self.layouts) * len(self.forms)

    def points(self) -> Iterator[Point]:
        for form in self.forms:
            for layout in self.layouts:
                for batch in self.batches:
                    yield Point(self.name, batch, layout, form)

    def next_batches(self, point: Point) -> Iterator[Point]:
        """The batch sizes next to the point's, the larger one first."""
        place = self.batches.index(point.batch)
        for step in (place + 1, place - 1):
            if 0 <= step < len(self.batches):
                yield replace(point, batch=self.batches[step])

    def other_layouts(self, point: Point) -> Iterator[Point]:
        return (replace(point, layout=layout) for layout in self.layouts if layout != point.layout)

    def other_forms(self, point: Point) -> Iterator[Point]:
        return (replace(point, form=form) for form in self.forms if form != point.form)


@dataclass(frozen=True)
class Space:
    families: tuple[Family, ...]

    def __len__(self) -> int:
        return sum(len(family) for family in self.families)

    def points(self) -> Iterator[Point]:
        for family in self.families:
            yield from family.points()

    def family(self, name: str) -> Family:
        return next(family for family in self.families if family.name == name)
