"""A MODEL that is a name given to ``@register_model`` in this process."""

from __future__ import annotations

from dataclasses import replace

from assay.sources.built import defining_file, from_builder
from assay.sources.options import Architecture, SourceOptions
from assay.sources.registry import registered


def open_source(spec: str, options: SourceOptions) -> Architecture:
    """Build the registered function; the file that defines it counts as code.  Raises BadInput."""
    builder = registered(spec)
    file = defining_file(builder)
    found = from_builder(builder, (spec, spec), {"builder": "registered", "name": spec}, options)
    return replace(found, code=(file,) if file else ())
