"""A clock whose hands the tests move."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Hand:
    at_s: float = 100.0

    def __call__(self) -> float:
        return self.at_s
