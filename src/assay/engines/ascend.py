"""Huawei Ascend: ONNX files compiled by ``atc`` into ``.om``, run through ais_bench's ``InferSession``.

An ``.om`` has fixed shapes: one batch size (``BuildOptions.batch``), or the few that its dynamic
batch lists; a session of the latter pads to the next one (see ``buckets``).

Provider options: ``soc_version`` (``Ascend310``, ``Ascend310P3``; asked of the device when left
out), ``dynamic_batch`` (``1,4,8``), ``aipp`` (a file), ``auto_tune_mode`` (``GA``, ``RL,GA``; older
toolkits only).  int8 comes from Huawei's own AMCT, whose deploy model is given as the ONNX file.
"""

from __future__ import annotations

import importlib
import json
import shlex
import shutil
import subprocess
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import Attestation, BuildOptions, OpenOptions, Session
from assay.core.errors import AssayError, BadInput, EngineFailed, NotAvailable
from assay.core.tensors import DTYPES, Array, Feed, Signature
from assay.engines.ascend_command import PRECISION_MODES, Settings, atc
from assay.engines.base import (
    NOT_YET_RUN,
    PooledSession,
    at_batch,
    check_format,
    check_open,
    failed,
    parse_device,
    reason,
    refuse_streams,
)
from assay.engines.buckets import bucketed

_INSTALL = "install the CANN toolkit, then: pip install aclruntime ais_bench (wheels of Ascend/tools)"
_OPTIONS = frozenset({"soc_version", "dynamic_batch", "aipp", "auto_tune_mode"})
_DYNAMIC = (1, 2, 4, 8, 16, 32)
_TIMEOUT_S = 3600.0


class AscendEngine:
    name = "ascend"
    status = NOT_YET_RUN
    usual_device = "npu"
    reads: tuple[str, ...] = ("onnx",)
    opens: tuple[str, ...] = ("ascend",)
    precisions: tuple[str, ...] = ("fp32", "fp16")

    def version(self) -> str:
        """The version of ais_bench, which runs the files; CANN's own is in the builder's log."""
        from importlib import metadata

        _library()
        for name in ("ais_bench", "ais-bench", "aclruntime"):
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return "unknown"

    def unavailable(self, device: str = "npu", precision: str = "fp32") -> str | None:
        def probe() -> str | None:
            kind = parse_device(device).kind
            if kind != "npu":
                return f"ascend runs on npu only, not on {device}; where there is an Ascend card: {_INSTALL}"
            _library()
            return None

        return reason(self.name, self.precisions, precision, probe)

    def build(self, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
        """``model.om`` with atc's words in ``builder.log``.  Raises NotAvailable without atc, EngineFailed
        with its first error line."""
        from assay.graph.signature import read_signature

        check_format(self.name, "build from", self.reads, artifact)
        if options.precision not in self.precisions:
            raise NotAvailable(self.unavailable(options.device, options.precision) or options.precision)
        if shutil.which("atc") is None:
            raise NotAvailable(
                "atc, the compiler of Huawei's CANN toolkit, is not on the PATH",
                remedy="source /usr/local/Ascend/ascend-toolkit/set_env.sh",
            )
        signature = read_signature(artifact.path)
        fixed = at_batch(signature, options.batch)
        settings = _with_sizes(_settings(options), signature)
        out_dir.mkdir(parents=True, exist_ok=True)
        words = atc(artifact.path, out_dir / "part-of-model", signature, settings)
        _compile(words, out_dir)
        made = (out_dir / "part-of-model.om").replace(out_dir / "model.om")

        built_for = {
            "soc_version": settings.soc_version,
            "precision": options.precision,
            "dynamic_batch": json.dumps(settings.dynamic_batch),
            "signature": json.dumps(fixed.to_json(), sort_keys=True),
            "command": shlex.join(words),
        }
        return file_artifact(made, "ascend", parents=(artifact.sha256,), built_for=built_for)

    def build_command(self, artifact: Artifact, options: BuildOptions, out_dir: Path, version: str | None) -> str:
        """The atc line that does the same."""
        from assay.graph.signature import read_signature

        check_format(self.name, "build from", self.reads, artifact)
        signature = read_signature(artifact.path)
        at_batch(signature, options.batch)
        return shlex.join(atc(artifact.path, out_dir / "model", signature, _with_sizes(_settings(options), signature)))

    def open(self, artifact: Artifact, options: OpenOptions) -> Session:
        check_open(self, artifact, options)
        refuse_streams(self.name, options)
        if options.threads is not None or options.provider_options:
            raise BadInput("an .om was built with its options: threads and provider options mean nothing when opening")
        signature, sizes = _kept(artifact, options)
        _check_card(artifact)
        module = _library()
        index = parse_device(options.device).index
        workers: list[Any] = []
        try:
            for _ in range(options.instances):
                workers.append(module.InferSession(index, str(artifact.path)))
        except Exception as error:
            for worker in workers:
                worker.free_resource()
            raise failed(self.name, f"open {artifact.path}", error) from error
        session = AscendSession(signature, workers, bool(sizes))
        if not sizes:
            return session
        try:
            return bucketed(signature, replace(options, buckets=sizes), lambda _: session)
        except BaseException:
            session.close()
            raise


class AscendSession(PooledSession[Any]):
    """Outputs come as new arrays in the file's order; ``dynamic`` says that every call tells its batch size."""

    def __init__(self, signature: Signature, workers: Sequence[Any], dynamic: bool) -> None:
        super().__init__("ascend", signature, workers)
        self._mode = "dymbatch" if dynamic else "static"

    def _infer(self, worker: Any, feed: Feed, spans: MutableMapping[str, float] | None) -> Sequence[Array]:
        given = [np.asarray(feed[name], order="C") for name in self._signature.input_names]
        made = worker.infer(given, self._mode)
        if made is None or len(made) != len(self._output_names):
            return made or []
        if spans is not None:
            spans["compute"] = worker.sumary().exec_time_list[-1] / 1e3  # the library's spelling; milliseconds
        return [_as_declared(a, s.name, DTYPES[s.dtype]) for a, s in zip(made, self._signature.outputs, strict=True)]

    def _attest(self, worker: Any) -> Attestation:
        """Nothing is claimed."""
        told = "ais_bench does not tell the precision of operators"
        return Attestation({}, how=told, untold=told)

    def _release(self) -> None:
        for worker in self._workers:
            worker.free_resource()


def _as_declared(array: Array, name: str, dtype: np.dtype[Any]) -> Array:
    if array.dtype != dtype:
        raise EngineFailed(f"output {name!r} came as {array.dtype}; the file was built for {dtype}")
    return np.array(array)


def _library() -> Any:
    try:
        return importlib.import_module("ais_bench.infer.interface")
    except ImportError:
        raise NotAvailable("ais_bench is not installed", remedy=_INSTALL) from None


def _settings(options: BuildOptions) -> Settings:
    given = dict(options.provider_options)
    unknown = sorted(set(given) - _OPTIONS)
    if unknown:
        raise BadInput(f"ascend has no option {unknown[0]!r}", remedy=f"it has: {', '.join(sorted(_OPTIONS))}")
    if options.precision not in PRECISION_MODES:
        raise BadInput(f"ascend has no precision {options.precision!r}; it has: {', '.join(PRECISION_MODES)}")
    soc = given.get("soc_version") or _soc_here()
    try:
        sizes = tuple(sorted({int(word) for word in given.get("dynamic_batch", "").split(",") if word}))
        if sizes and sizes[0] < 1:
            raise ValueError("no batch size")
    except ValueError:
        raise BadInput(f"dynamic_batch is {given['dynamic_batch']!r}", remedy="dynamic_batch=1,4,8") from None
    if sizes and options.batch is not None:
        raise BadInput("one batch size and a list of them contradict each other", remedy="drop one of the two")
    aipp = Path(given["aipp"]) if "aipp" in given else None
    if aipp is not None and not aipp.is_file():
        raise BadInput(f"there is no file {aipp}")
    return Settings(soc, options.precision, options.batch, sizes, aipp, given.get("auto_tune_mode"))


def _with_sizes(settings: Settings, signature: Signature) -> Settings:
    """A free batch that nobody gave a size for gets the usual list."""
    free = any(isinstance(s.batch, str) for s in signature.inputs)
    if settings.batch is None and free and not settings.dynamic_batch:
        return replace(settings, dynamic_batch=_DYNAMIC)
    return settings


def _soc_here() -> str:
    """What the card calls itself.  Raises BadInput where there is none to ask."""
    try:
        name = importlib.import_module("acl").get_soc_name()
    except ImportError:
        name = None
    if not name:
        raise BadInput("there is no Ascend card to ask for its soc_version", remedy="--option soc_version=Ascend310P3")
    return str(name)


def _check_card(artifact: Artifact) -> None:
    """An ``.om`` is for one kind of card.  Raises NotAvailable with the command that builds it for this one."""
    built = artifact.built_for.get("soc_version")
    try:
        here = _soc_here()
    except BadInput:
        return  # without the toolkit's acl there is nobody to ask
    if built is not None and built != here:
        again = artifact.built_for.get("command", "assay build MODEL.onnx --engine ascend -o DIR")
        raise NotAvailable(
            f"{artifact.path} was built for {built}; here is {here}",
            remedy=again.replace(f"--soc_version={built}", f"--soc_version={here}"),
        )


def _compile(words: list[str], out_dir: Path) -> None:
    log = out_dir / "builder.log"
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineFailed(f"atc did not finish: {error}") from error
    log.write_text(f"{shlex.join(words)}\n{done.stdout}{done.stderr}")
    if done.returncode or not (out_dir / "part-of-model.om").is_file():
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        told = next((line for line in lines if line.startswith("E") or "ERROR" in line), lines[-1] if lines else "")
        raise EngineFailed(f"atc failed with exit code {done.returncode}: {told or 'it said nothing'}", log=str(log))


def _kept(artifact: Artifact, options: OpenOptions) -> tuple[Signature, tuple[int, ...]]:
    """Signature and batch sizes from the build.  Raises BadInput for an ``.om`` from elsewhere or another precision."""
    built = artifact.built_for
    try:
        signature = Signature.from_json(json.loads(built["signature"]))
        sizes = tuple(json.loads(built["dynamic_batch"]))
        precision = built["precision"]
    except (KeyError, ValueError, TypeError, AssayError):
        raise BadInput(f"{artifact.path}: the signature of this .om is unknown", remedy="build it again") from None
    if precision != options.precision:
        raise BadInput(f"{artifact.path} was built for {precision}; {options.precision} was asked for")
    return signature, sizes if signature.static_batch is None else ()
