"""The Python face of assay (INTERFACE.md, "Python"): what ``import assay`` offers."""
