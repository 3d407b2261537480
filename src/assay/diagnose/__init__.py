"""Which stage, which operator, which line: blame for outputs that differ.

``stages`` walks from the reference to the candidate and finds the first step that adds error beyond
its due; ``operators`` goes inside that step; ``reproduction`` writes what is needed to show it elsewhere.
"""

# Each target is a function (source, [(tensor, tensors it is computed from)], out) -> operators kept in fp32 in ``out``.
KEEPERS = {
    "openvino": "assay.diagnose.openvino_precise:keep_precise",
}
