"""Inference libraries, one per file.  This table is the whole registry; see docs/adding-an-engine.md."""

ENGINES = {
    "null": "assay.engines.null:NullEngine",
    "torch": "assay.engines.torch:TorchEngine",
    "torch_compile": "assay.engines.torch_compile:TorchCompileEngine",
    "onnxruntime": "assay.engines.onnxruntime:OnnxRuntimeEngine",
    "openvino": "assay.engines.openvino:OpenVinoEngine",
    "tensorrt": "assay.engines.tensorrt:TensorRtEngine",
    "ascend": "assay.engines.ascend:AscendEngine",
    "remote": "assay.engines.remote:RemoteEngine",
}
