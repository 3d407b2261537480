"""Lower precisions, one way of getting there per file.  See docs/precision.md.

``METHODS`` is the whole registry; ``DEFAULT`` is the method a precision means when none is named.
"""

METHODS = {
    "fp16": "assay.precision.fp16:lower",
    "bf16": "assay.precision.bf16:lower",
    "nncf": "assay.precision.int8_nncf:lower",
    "ort": "assay.precision.int8_ort:lower",
}
DEFAULT = {"fp16": "fp16", "bf16": "bf16", "int8": "nncf"}
FOR = {"fp16": ("fp16",), "bf16": ("bf16",), "int8": ("nncf", "ort")}
