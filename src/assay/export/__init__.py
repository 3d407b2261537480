"""From a PyTorch module to an ONNX file, with proof: see ``export.py``."""
