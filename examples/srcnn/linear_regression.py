"""The document's linear regression, Y = X·A + B, its graph built by hand, then fitted and run.

    python linear_regression.py linear_regression.onnx

``--as-printed`` keeps the document's shape of Y: one dim, where a sum of matrices has two, as ONNX's full check says.
"""

from __future__ import annotations

import argparse

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from sklearn.datasets import load_diabetes

import assay


def linear_regression(as_printed: bool) -> onnx.ModelProto:
    inputs = [make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in "XAB"]
    output = make_tensor_value_info("Y", TensorProto.FLOAT, [None] if as_printed else [None, None])
    nodes = [make_node("MatMul", ["X", "A"], ["XA"]), make_node("Add", ["XA", "B"], ["Y"])]
    graph = make_graph(nodes, "lr", inputs, [output])
    # The document's call names no version and so writes the newest, which not every engine reads.
    return make_model(graph, opset_imports=[make_opsetid("", 13)], ir_version=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--as-printed", action="store_true")
    given = parser.parse_args()
    onnx.save(linear_regression(given.as_printed), given.file)
    try:
        onnx.checker.check_model(given.file, full_check=True)
    except onnx.shape_inference.InferenceError as error:
        print(f"{given.file}: {error}")
        return
    x, target = (part.astype(np.float32) for part in load_diabetes(return_X_y=True))
    wide = np.column_stack([x, np.ones(len(x), np.float32)])
    fitted = np.linalg.lstsq(wide, target, rcond=None)[0][:, None].astype(np.float32)
    feed = {"X": x, "A": fitted[:-1], "B": fitted[-1:]}
    with assay.open(given.file) as session:
        found = session.run(feed)["Y"]
    error = float(np.abs(found - wide @ fitted).max())
    explained = 1 - float(np.var(target - found[:, 0]) / np.var(target))
    print(f"{given.file}: fitted to {len(x)} patients, it explains {explained:.1%} of the variance; ", end="")
    print(f"max abs error against numpy {error:.1e}")


if __name__ == "__main__":
    main()
