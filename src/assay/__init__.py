"""assay takes a PyTorch model to a deployable inference engine, and proves it."""

from assay._version import __version__

__all__ = ["__version__"]
