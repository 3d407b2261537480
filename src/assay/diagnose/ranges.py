"""The ranges of a node's inputs, and what they mean for narrow formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from assay.core.tensors import Array

FP16_LARGEST = 65504.0
FP16_SMALLEST = 2.0**-24


@dataclass(frozen=True)
class Range:
    """Of one tensor in the reference: finite values only, except for the counts."""

    tensor: str
    low: float
    high: float
    rms: float
    not_finite: int
    over_fp16: int
    under_fp16: int
    size: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def advice(self) -> str | None:
        if self.not_finite:
            return f"{self.tensor} has {self.not_finite} values of NaN or infinity in the reference"
        if self.over_fp16:
            largest = max(abs(self.low), abs(self.high))
            return (
                f"{self.tensor} reaches {largest:.3g}: {self.over_fp16} of {self.size} values overflow fp16, "
                f"whose largest is {FP16_LARGEST:.0f}"
            )
        if self.under_fp16 > self.size // 100:
            return f"{self.tensor}: {self.under_fp16 / self.size:.0%} of the values vanish in fp16"
        return None


def range_of(tensor: str, values: Array) -> Range:
    x = values.astype(np.float64).ravel()
    good = x[np.isfinite(x)]
    size = np.abs(good)
    return Range(
        tensor,
        float(good.min()) if good.size else 0.0,
        float(good.max()) if good.size else 0.0,
        float(np.sqrt((good * good).mean())) if good.size else 0.0,
        int(x.size - good.size),
        int((size > FP16_LARGEST).sum()),
        int(((size < FP16_SMALLEST) & (size > 0)).sum()),
        int(x.size),
    )


def saturation(values: Array, scale: Array, zero_point: Array, axis: int = 1) -> float:
    """The share of ``values`` outside what a QuantizeLinear with these parameters can hold; 0 for no values.

    ``zero_point`` is of the integer type quantised to; one of an 8-bit float is no range of steps, and gives 0.
    ``axis`` is where one scale a channel lies.
    """
    try:
        limits = ml_dtypes.iinfo(zero_point.dtype)
    except ValueError:
        return 0.0
    if not values.size:
        return 0.0
    step, zero = scale.astype(np.float64), zero_point.astype(np.float64)
    if step.ndim and step.size > 1:
        shape = [1] * values.ndim
        shape[axis] = step.size
        step, zero = step.reshape(shape), zero.reshape(shape)
    low, high = (limits.min - zero - 0.5) * step, (limits.max - zero + 0.5) * step
    return float(((values < low) | (values > high)).mean())
