"""The document's symbolic function, in today's form: the TorchScript exporter does not know ``asinh``."""

TORCHSCRIPT = {"aten::asinh": lambda g, x: g.op("Asinh", x)}
