"""ONNX Runtime, until it breaks: in the way that ASSAY_BREAK names, after as many calls as it says (``crash:3``).

``poison``: it crashes on numbers no picture has; ``poison-in-the-parent`` in the tool's own process alone, and
``stall`` waits there for whoever kills it.  ``onnxruntime=…`` breaks the engine of that name.
"""

import os
import signal
import sys
import time

import numpy as np

from assay.engines.onnxruntime import OnnxRuntimeEngine

POISON = 1e6


class BrokenSession:
    def __init__(self, session):
        self._session = session
        way, _, after = os.environ.get("ASSAY_BREAK", "").rpartition("=")[2].partition(":")
        self._way, self._left = way, int(after or 0)
        self._leaked = []

    def __getattr__(self, name):
        return getattr(self._session, name)

    def __enter__(self):
        self._session.__enter__()
        return self

    def __exit__(self, *error):
        return self._session.__exit__(*error)

    def run(self, *arguments, **named):
        if any(np.any(array >= POISON) for array in arguments[0].values()):
            here = "child" not in sys.argv[0]
            if self._way == "poison" or (self._way == "poison-in-the-parent" and here):
                signal.raise_signal(signal.SIGSEGV)  # in this thread, as a crash is
            if self._way == "stall" and here:
                time.sleep(3600)
        outputs = self._session.run(*arguments, **named)
        self._left -= 1
        if self._left >= 0:
            return outputs
        if self._way == "crash" or (self._way == "crash-in-the-parent" and "child" not in sys.argv[0]):
            signal.raise_signal(signal.SIGSEGV)  # in this thread, as a crash is
        if self._way == "hang":
            time.sleep(3600)
        if self._way == "leak":
            self._leaked.append(np.ones(2**20))  # 8 MiB, touched
        if self._way == "nan":
            outputs = {name: np.full_like(array, np.nan) for name, array in outputs.items()}
        return outputs


class BrokenEngine(OnnxRuntimeEngine):
    name = "broken"

    def open(self, artifact, options):
        return BrokenSession(super().open(artifact, options))


class BrokenReference(BrokenEngine):
    name = "onnxruntime"
