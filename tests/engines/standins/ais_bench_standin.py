"""A STAND-IN for ``ais_bench.infer.interface``, written from its documented Python interface.

``InferSession(device_id, path).infer(feeds, mode)`` runs the ONNX file in the stand-in's ``.om`` on the CPU.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime

MAGIC = b"STANDIN-OM\n"


@dataclass
class Summary:
    exec_time_list: list[float] = field(default_factory=list)


class InferSession:
    live = 0

    def __init__(self, device_id: int, model_path: str) -> None:
        content = Path(model_path).read_bytes()
        if not content.startswith(MAGIC):
            raise RuntimeError("load model from file failed, 145000")
        head, _, body = content.removeprefix(MAGIC).partition(b"\n")
        self.header = json.loads(head)
        self.session = onnxruntime.InferenceSession(body)
        self.summary = Summary()
        type(self).live += 1

    def infer(self, feeds: list[np.ndarray], mode: str = "static") -> list[np.ndarray]:
        names = [value.name for value in self.session.get_inputs()]
        for name, feed in zip(names, feeds, strict=True):
            dims = [int(d) for d in self.header["shapes"][name].split(",")]
            if mode == "dymbatch":
                assert dims[0] == -1
                if feed.shape[0] not in self.header["sizes"]:
                    raise RuntimeError(f"batch {feed.shape[0]} is not among the model's: {self.header['sizes']}")
                dims[0] = feed.shape[0]
            if list(feed.shape) != dims:
                raise RuntimeError(f"input {name}: shape {feed.shape} is not the model's {dims}")
        self.summary.exec_time_list.append(2.0)
        return self.session.run(None, dict(zip(names, feeds, strict=True)))

    def sumary(self) -> Summary:
        return self.summary

    def free_resource(self) -> None:
        type(self).live -= 1
