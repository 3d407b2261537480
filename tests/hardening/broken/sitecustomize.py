"""Python runs this as it starts, here and in every child: the table of engines gets one more."""

from assay.engines import ENGINES

ENGINES["broken"] = "broken_engine:BrokenEngine"
