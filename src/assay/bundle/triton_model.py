"""A bundle as a model of Triton's Python backend: this file is copied to ``NAME/1/model.py`` as it is.

It needs numpy and the bundle's engine library (and Pillow where it takes pictures), not assay.  The
bundle lies beside it in ``bundle/``; its files are compared with their digests before anything is
opened.  Requests that Triton put together are one call of the engine.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Run = Callable[[Mapping[str, Array]], Sequence[Array]]


class TritonPythonModel:
    """What Triton's Python backend calls; one process for each instance."""

    def initialize(self, args: Mapping[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"] / "bundle"
        _check_digests(folder)
        config = json.loads(args["model_config"])
        described = _read(folder / "bundle.json")
        signature = _read(folder / "signature.json")
        self._triton = importlib.import_module("triton_python_backend_utils")
        self._batched = int(config["max_batch_size"]) > 0
        self._inputs = [spec["name"] for spec in signature["inputs"]]
        self._outputs = [spec["name"] for spec in signature["outputs"]]
        parameters = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}
        self._decode = None
        if parameters.get("pictures") == "yes":
            images = importlib.import_module("assay_images")
            self._decode = images.transform_of(_read(folder / "preprocess.json"))
        options = described["candidate"]["options"]
        if options["threads"] is None:
            options["threads"] = int(parameters.get("threads", 0)) or _share_of_cores(config)
        path = folder / described["artifact"]["path"]
        self._run: Run = _OPEN[described["artifact"]["format"]](path, options, self._inputs, self._outputs)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request, in their order; a request that cannot be read fails alone."""
        answers: list[Any] = [None] * len(requests)
        feeds: list[tuple[int, dict[str, Array]]] = []
        for index, request in enumerate(requests):
            try:
                feeds.append((index, self._feed(request)))
            except ValueError as error:
                answers[index] = self._failed(str(error))
        for group in [feeds] if self._batched and self._same_rows(feeds) else [[feed] for feed in feeds]:
            if group:
                self._answer(requests, group, answers)
        return answers

    def _feed(self, request: Any) -> dict[str, Array]:
        find = self._triton.get_input_tensor_by_name
        feed = {name: find(request, name).as_numpy() for name in self._inputs}
        if self._decode is None:
            return feed
        ((name, encoded),) = feed.items()
        return {name: np.stack([self._decode(bytes(one)) for one in encoded.ravel()])}

    def _same_rows(self, feeds: Sequence[tuple[int, dict[str, Array]]]) -> bool:
        """Pictures without a fixed size, and free dims, may differ from request to request."""
        shapes = {tuple(feed[name].shape[1:] for name in self._inputs) for _, feed in feeds}
        return len(shapes) <= 1

    def _answer(self, requests: Sequence[Any], group: Sequence[tuple[int, dict[str, Array]]], answers: Any) -> None:
        feeds = [feed for _, feed in group]
        try:
            merged = feeds[0]
            if len(feeds) > 1:
                merged = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
            results = dict(zip(self._outputs, self._run(merged), strict=True))
        except Exception as error:
            for index, _ in group:
                answers[index] = self._failed(f"the engine failed: {error}")
            return
        first = self._inputs[0]
        start = 0
        for index, feed in group:
            rows = slice(start, start + len(feed[first])) if len(group) > 1 else slice(None)
            wanted = [name for name in self._outputs if name in set(requests[index].requested_output_names())]
            tensors = [self._triton.Tensor(n, results[n][rows] if len(group) > 1 else results[n]) for n in wanted]
            answers[index] = self._triton.InferenceResponse(tensors)
            start += len(feed[first])

    def _failed(self, text: str) -> Any:
        return self._triton.InferenceResponse([], error=self._triton.TritonError(text))


# Engines: (file, options as the bundle has them, input names, output names) -> a function of a feed


def _openvino(path: Path, options: Mapping[str, Any], inputs: Sequence[str], outputs: Sequence[str]) -> Run:
    library: Any = importlib.import_module("openvino")
    hint = {"fp32": "f32", "int8": "f32", "bf16": "bf16", "fp16": "f16"}[options["precision"]]
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": hint,
        "EXECUTION_MODE_HINT": "ACCURACY" if options["precision"] == "fp32" else "PERFORMANCE",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": options["threads"],
        **options["provider_options"],
    }
    request = library.Core().compile_model(str(path), options["device"].upper(), settings).create_infer_request()

    def run(feed: Mapping[str, Array]) -> Sequence[Array]:
        for index, name in enumerate(inputs):
            request.set_input_tensor(
                index, library.Tensor(np.require(feed[name], None, ["C", "W"]), shared_memory=True)
            )
        results: Sequence[Array] = request.infer({}, share_outputs=True).to_tuple()
        return results  # views, overwritten by the next call: Triton has copied them by then

    return run


_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


def _onnxruntime(path: Path, options: Mapping[str, Any], inputs: Sequence[str], outputs: Sequence[str]) -> Run:
    library: Any = importlib.import_module("onnxruntime")
    given = {k: v for k, v in options["provider_options"].items() if k not in ("provider", "io_binding")}
    settings = library.SessionOptions()
    settings.intra_op_num_threads = options["threads"]
    level = _LEVELS[given.pop("graph_optimization_level", "all")]
    settings.graph_optimization_level = getattr(library.GraphOptimizationLevel, level)
    for key in [k for k in given if "." in k]:
        settings.add_session_config_entry(key, given.pop(key))
    kind, _, index = options["device"].partition(":")
    provider = "CPUExecutionProvider"
    if kind == "cuda":
        provider = "CUDAExecutionProvider"
        given = {"device_id": index or "0", "use_tf32": str(int(options["precision"] == "tf32")), **given}
    session = library.InferenceSession(str(path), settings, providers=[(provider, given)])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"onnxruntime fell back from {provider} to {', '.join(session.get_providers())}")
    texts = {value.name for value in session.get_inputs() if value.type == "tensor(string)"}

    def run(feed: Mapping[str, Array]) -> Sequence[Array]:
        given = {name: _texts(feed[name]) if name in texts else feed[name] for name in inputs}
        results: Sequence[Array] = session.run(list(outputs), given)
        return results

    return run


def _texts(array: Array) -> Array:
    found = np.empty(array.shape, dtype=object)
    for index, value in np.ndenumerate(array):
        found[index] = value.decode()
    return found


def _torchscript(path: Path, options: Mapping[str, Any], inputs: Sequence[str], outputs: Sequence[str]) -> Run:
    library: Any = importlib.import_module("torch")
    library.set_num_threads(options["threads"])
    module = library.jit.load(str(path), map_location=options["device"]).eval()

    def run(feed: Mapping[str, Array]) -> Sequence[Array]:
        with library.inference_mode():
            results = module(*(library.from_numpy(feed[name]).to(options["device"]) for name in inputs))
        return [r.cpu().numpy() for r in (results if isinstance(results, list | tuple) else [results])]

    return run


_OPEN = {"openvino": _openvino, "onnx": _onnxruntime, "torchscript": _torchscript}


def _share_of_cores(config: Mapping[str, Any]) -> int:
    """The cores of this machine, divided among the instances."""
    instances = sum(int(group.get("count", 1)) for group in config.get("instance_group", [])) or 1
    return max(1, len(os.sched_getaffinity(0)) // instances)


def _check_digests(folder: Path) -> None:
    for entry in _read(folder / "manifest.json")["files"]:
        with (folder / entry["path"]).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry["sha256"]:
            raise RuntimeError(f"{entry['path']} is not the file this bundle was packed with")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
