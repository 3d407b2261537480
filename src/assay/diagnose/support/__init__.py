"""Which engines take which ONNX operators, at which opset.

One file an engine.  Each asks the installed library itself where that can answer, or looks the operator up
in what its maker documents, and then says so: a documented answer was not run here.
"""

# Each target is a function () -> Knowledge that raises NotAvailable where the library that would answer is missing.
SUPPORT = {
    "onnxruntime": "assay.diagnose.support.onnxruntime:knowledge",
    "openvino": "assay.diagnose.support.openvino:knowledge",
    "tensorrt": "assay.diagnose.support.tensorrt:knowledge",
    "ascend": "assay.diagnose.support.ascend:knowledge",
}
