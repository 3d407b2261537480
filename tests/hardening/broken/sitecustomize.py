"""Python runs this as it starts, here and in every child: the table of engines gets one more, and the one that is to
break is another."""

import os

from assay.engines import ENGINES

ENGINES["broken"] = "broken_engine:BrokenEngine"
if os.environ.get("ASSAY_BREAK", "").startswith("onnxruntime="):
    ENGINES["onnxruntime"] = "broken_engine:BrokenReference"
