"""Where assay serve answers otherwise than Triton, on purpose: case of ``corpus.py`` -> why.

OIP is the Open Inference Protocol (kserve/open-inference-protocol), RFC 9110 and 9112 are HTTP, RFC 8259 is JSON.
"""

from __future__ import annotations

CLIENT_ERROR = "OIP, inference response: an error of the request is a 4xx; Triton answers 500"
STRICT_JSON = "RFC 8259: what is ambiguous or beyond the grammar is refused, not guessed"
NO_GUESS = "a value that does not fit its datatype is refused; Triton changes it silently"
SMUGGLING = "RFC 9112 §6: a request whose length is ambiguous is refused with 400 and the connection closed"
FRAMING = "RFC 9112 §2–5: malformed framing is answered with 400 where Triton closes without a word, or accepts it"
LIMITS = "RFC 6585 §5 and RFC 9110 §15.5.14: what is too large is said (431, 413); Triton closes, hangs or takes it"
OFF = "administration and shared memory are off unless --admin (403), whatever is asked of them"
URL = "RFC 3986 §6.2.2: equivalent URLs are one resource; a slash more is harmless"
NOT_FOUND = "RFC 9110 §15.5.5: what does not exist is 404 everywhere; Triton mixes 400 and 404"
CRASH = "Triton 2.51 dies of it (and everybody's requests with it)"

CLIENT_ERRORS = (
    "inputs missing",
    "a negative dim",
    "two negative dims",
    "a fraction as dim",
    "a text as dim",
    "dims beyond 64 bits",
    "too little data",
    "too much data",
    "no data at all",
    "name missing",
    "shape missing",
    "datatype missing",
    "blanks",
    "not JSON",
    "JSON cut off",
    "something after the JSON",
    "two documents",
    "a list",
    "a number",
    "null",
    "inputs as an object",
    "inputs as null",
    "a comma too many",
    "a number as id",
    "null as id",
    "an object as id",
    "parameters as a list",
    "a negative timeout",
    "a text as timeout",
    "a fraction as priority",
    "outputs as an object",
    "an output without a name",
    "classification as text",
    "binary_data as text",
    "a text as FP32",
    "a truth value as FP32",
    "null as FP32",
    "a fraction as INT64",
    "a number beyond INT64",
    "a negative UINT8",
    "a number as BOOL",
    "a number as BYTES",
    "binary size negative",
    "binary size as text",
    "header length too short",
)
INTENDED: dict[str, str] = {
    **dict.fromkeys(CLIENT_ERRORS, CLIENT_ERROR),
    "all binary but one": "binary tensor extension: binary_data_output holds for every output that does not override "
    "it; Triton forgets it as soon as outputs are listed",
    "a byte order mark": "RFC 8259 §8.1: a JSON text does not begin with one",
    "a repeated key": STRICT_JSON,
    "a number beyond a double": "as NaN and Infinity, which both servers take, it is what the datatype makes of it",
    "ragged data": "OIP, tensor data: nested arrays have the tensor's shape",
    "a number beyond INT8": NO_GUESS,
    "classification 0": "classification extension: the number of classes is positive; Triton ignores it",
    "a version that is no number": CLIENT_ERROR.replace("500", "404"),
    "unknown model's statistics": NOT_FOUND,
    "outside v2": "the interactive API page for people",
    "a double slash": URL,
    "a slash at the end": URL,
    "an escaped letter in the path": URL,
    "an unknown encoding": "RFC 9110 §15.5.16: an unsupported content coding is 415",
    "shared memory nobody registered": OFF,
    "a huge dim": CRASH,
    "Content-Length twice, the same": SMUGGLING,
    "Content-Length and Transfer-Encoding": SMUGGLING,
    "Content-Length with a sign": FRAMING,
    "Content-Length negative": FRAMING,
    "Content-Length in hexadecimal": FRAMING,
    "a header without a colon": FRAMING,
    "a blank before the colon": FRAMING,
    "a zero byte in a header": FRAMING,
    "HTTP/9.9": FRAMING,
    "no HTTP at all": FRAMING,
    "a method that is none": FRAMING,
    "a chunk that is none": FRAMING,
    "a chunk of 2^64 bytes": FRAMING,
    "Content-Length of 10 TB": LIMITS,
    "4000 headers": LIMITS,
    "a header of 200 KB": LIMITS,
    "a URL of 100 KB": LIMITS,
    "200 MB in a gzip body": LIMITS,
    "load with a file": OFF,
    "load of a path": OFF,
    "shared memory of a path": OFF,
}
DISPUTED = frozenset({"all binary but one"})
"""Requests that the written protocol allows and where Triton, not assay, departs from it."""
CRASHES_TRITON = frozenset(case for case, why in INTENDED.items() if why is CRASH)
GRPC_INTENDED: dict[str, str] = {
    "ModelStatistics of nobody": "gRPC status codes: what does not exist is NOT_FOUND everywhere; Triton mixes codes",
    "raw of more inputs than there are": "OIP, gRPC: raw_input_contents has one entry an input; Triton drops the rest",
    "a number beyond INT8": NO_GUESS,
    "shared memory nobody registered": OFF.replace("(403)", "(PERMISSION_DENIED, INVALID_ARGUMENT)"),
    "load with a file": OFF.replace("(403)", "(PERMISSION_DENIED)"),
    "shared memory of a path": OFF.replace("(403)", "(PERMISSION_DENIED)"),
}
