"""Eager PyTorch: the reference every other engine is compared with.

fp64 is the truth where rounding must be told from error; fp32 is computed with TF32 and
bf16 fast math off; bf16 and fp16 cast weights and inputs and give outputs back in their own dtype.
The provider option ``memory_format`` is ``channels_last`` or ``contiguous``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.core.artifact import Artifact
from assay.core.engine import BuildOptions, OpenOptions
from assay.core.errors import BadInput, NotAvailable
from assay.core.tensors import Signature
from assay.engines.base import check_format, check_open, check_options, failed, reason
from assay.engines.torch_process import devices, no_device, version
from assay.engines.torch_session import HARMLESS, TorchSession, kept_signature, open_session


class TorchEngine:
    name = "torch"
    not_yet_run_on: tuple[str, ...] = ("cuda",)
    reads: tuple[str, ...] = ("source", "torchscript", "exported")
    opens: tuple[str, ...] = ("source", "torchscript", "exported")
    precisions: tuple[str, ...] = ("fp32", "tf32", "fp64", "bf16", "fp16")
    tuned_options = ((("memory_format", "channels_last"),),)
    """Provider options worth trying besides none, each a set of them: what a search tries as forms of the graph."""
    harmless_options = HARMLESS
    """Provider options that a stranger's bundle may set."""
    any_thread = False
    """Every thread that calls gets an OpenMP team of its own, and idle teams slow the working one down."""

    def version(self) -> str:
        return version()

    def unavailable(self, device: str = "cpu", precision: str = "fp32") -> str | None:
        return reason(self.name, self.precisions, precision, lambda: no_device(self.name, device, precision))

    def devices(self) -> tuple[str, ...]:
        return devices()

    def build(self, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
        """Nothing to build: the module is opened as it is."""
        check_format(self.name, "build from", self.reads, artifact)
        why = self.unavailable(options.device, options.precision)
        if why is not None:
            raise NotAvailable(why)
        return artifact

    def open(self, artifact: Artifact, options: OpenOptions) -> TorchSession:
        """``artifact.module()`` with the signature in ``artifact.built_for["signature"]`` (JSON).

        Raises BadInput when the artifact carries no signature; ``open_module`` takes one.
        """
        check_open(self, artifact, options)
        signature = kept_signature(artifact)
        if artifact.module is None:
            raise BadInput(f"{artifact.path}: this artifact does not say how to load its module")
        try:
            module = artifact.module()
        except Exception as error:
            raise failed(self.name, f"load {artifact.path}", error) from error
        return open_session(self.name, module, signature, options)

    def open_module(self, module: Any, signature: Signature, options: OpenOptions) -> TorchSession:
        """Open a live ``nn.Module``; its outputs are flattened and matched to ``signature`` by position."""
        check_options(self, options)
        return open_session(self.name, module, signature, options)
