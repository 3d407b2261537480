"""A STAND-IN for CANN's ``atc`` compiler, written from its documented flags.

It writes an ``.om`` that is the ONNX file behind a label.  It proves nothing about atc itself.
"""

import json
import sys
from pathlib import Path

import onnx

MAGIC = b"STANDIN-OM\n"


def main() -> int:
    given = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
    needed = {"framework", "model", "output", "input_format", "input_shape", "soc_version"}
    known = {*needed, "precision_mode", "dynamic_batch_size", "insert_op_conf", "auto_tune_mode", "log"}
    if set(given) - known or needed - set(given) or given["framework"] != "5":
        print("E10001: Value for a flag is missing or a flag is not known:", sorted(set(given) ^ needed))
        return 1
    model = onnx.load(given["model"])
    refused = [node for node in model.graph.node if node.op_type == "Det"]
    if refused:
        print("ATC start working now, please wait for a moment.")
        print(f"E19010: No parser is registered for Op [{refused[0].name}]")
        return 255
    shapes = dict(part.rpartition(":")[::2] for part in given["input_shape"].split(";"))
    sizes = given.get("dynamic_batch_size", "")
    if ("-1" in given["input_shape"]) != bool(sizes):
        print("E10018: input_shape and dynamic_batch_size do not belong together")
        return 1
    header = {"shapes": shapes, "sizes": [int(s) for s in sizes.split(",") if s], "soc": given["soc_version"]}
    body = MAGIC + json.dumps(header).encode() + b"\n" + model.SerializeToString()
    Path(given["output"] + ".om").write_bytes(body)
    print("ATC run success, welcome to the next use.")
    return 0


sys.exit(main())
