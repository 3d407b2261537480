"""Inference libraries, one per file.  This table is the whole registry; see docs/adding-an-engine.md."""

ENGINES = {
    "null": "assay.engines.null:NullEngine",
    "torch": "assay.engines.torch:TorchEngine",
    "onnxruntime": "assay.engines.onnxruntime:OnnxRuntimeEngine",
    "openvino": "assay.engines.openvino:OpenVinoEngine",
    "remote": "assay.engines.remote:RemoteEngine",
}
