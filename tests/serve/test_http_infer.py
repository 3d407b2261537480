"""What may be asked of a model over REST, in every form, and what is refused and how."""

import http.client
import io
import json
import struct
import threading

import numpy as np
import pytest

from assay.serve.classification import ranked
from assay.serve.errors import ServeError

X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def ask(server):
    """``ask(method, path, body, headers)`` -> (status, headers, body); dicts travel as JSON."""
    connections = []

    def request(method, path, body=b"", headers=None, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or server.port, timeout=20)
        connections.append(connection)
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    yield request
    for connection in connections:
        connection.close()


def tensor(name, array, datatype, **more):
    return {"name": name, "shape": list(array.shape), "datatype": datatype, **more}


def in_json(x=X):
    return tensor("x", x, "FP32", data=x.ravel().tolist())


def binary(request, *parts):
    """(body, headers) of a request with binary tensors."""
    text = json.dumps(request).encode()
    return text + b"".join(parts), {"Inference-Header-Content-Length": str(len(text))}


def refused(found, status, *words):
    assert found[0] == status, found[2]
    error = json.loads(found[2])["error"]
    assert all(word in error for word in words), error


NULL = "/v2/models/null/infer"


def test_json_nested_and_flat(ask):
    for data in (X.tolist(), X.ravel().tolist()):
        status, headers, body = ask("POST", NULL, {"id": "7", "inputs": [tensor("x", X, "FP32", data=data)]})
        assert status == 200
        assert headers["Content-Type"] == "application/json"
        assert json.loads(body) == {
            "id": "7",
            "model_name": "null",
            "model_version": "1",
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [3, 2], "data": [0.0, 0.0, 4.0, 4.0, 8.0, 8.0]}],
        }


def test_binary_in_and_out(ask):
    request = {
        "inputs": [tensor("x", X, "FP32", parameters={"binary_data_size": X.nbytes})],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    status, headers, body = ask("POST", "/v2/models/null/versions/1/infer", *binary(request, X.tobytes()))
    assert status == 200, body
    length = int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 24}
    assert np.frombuffer(body[length:], np.float32).tolist() == [0, 0, 4, 4, 8, 8]


def test_all_outputs_binary_unless_one_says_otherwise(ask):
    body, headers = binary(
        {"inputs": [in_json()], "parameters": {"binary_data_output": True}},
    )
    assert "Inference-Header-Content-Length" in ask("POST", NULL, body, headers)[1]
    request = {
        "inputs": [in_json()],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
    }
    assert "Inference-Header-Content-Length" not in ask("POST", NULL, request)[1]


def test_every_datatype_in_both_forms(ask):
    text = np.array([["né".encode()], [b""]], dtype=object)
    packed = b"".join(struct.pack("<I", len(t)) + t for t in text.ravel())
    whole, flag = np.array([[1, 2, 3], [-4, 5, 6]], np.int32), np.array([[True, False], [False, True]])
    half = np.array([[0.5, 1], [1.5, 2]], np.float16)
    inputs = [
        tensor("text", text, "BYTES", parameters={"binary_data_size": len(packed)}),
        tensor("whole", whole, "INT32", data=whole.tolist()),
        tensor("half", half, "FP16", parameters={"binary_data_size": half.nbytes}),
        tensor("flag", flag, "BOOL", data=flag.tolist()),
    ]
    outputs = [{"name": "sum"}, {"name": "said"}, {"name": "small", "parameters": {"binary_data": True}}]
    status, headers, body = ask(
        "POST", "/v2/models/many/infer", *binary({"inputs": inputs, "outputs": outputs}, packed, half.tobytes())
    )
    assert status == 200, body
    length = int(headers["Inference-Header-Content-Length"])
    first, said, _ = json.loads(body[:length])["outputs"]
    # The null engine: 1·text (its bytes' sum) + 2·whole + 3·half + 4·flag, of each row's first values.
    expected = [sum("né".encode()) + 2 * 1 + 3 * 0.5 + 4 * 1, 0 + 2 * -4 + 3 * 1.5 + 4 * 0]
    assert first["data"] == expected
    assert (said["datatype"], said["data"][0]) == ("BYTES", str(expected[0] + 1))
    assert np.frombuffer(body[length:], np.float16).tolist() == [np.float16(v + 2) for v in expected]


def test_half_floats_do_not_travel_in_json(ask):
    rows = {
        "text": tensor("text", np.empty((1, 1)), "BYTES", data=["a"]),
        "whole": tensor("whole", np.empty((1, 3)), "INT32", data=[1, 2, 3]),
        "flag": tensor("flag", np.empty((1, 2)), "BOOL", data=[True, False]),
    }
    half = np.zeros((1, 2), np.float16)
    told = [*rows.values(), tensor("half", half, "FP16", data=[0.5, 0.5])]
    refused(ask("POST", "/v2/models/many/infer", {"inputs": told}), 400, "FP16", "binary")
    told = [*rows.values(), tensor("half", half, "FP16", parameters={"binary_data_size": 4})]
    body, headers = binary({"inputs": told}, half.tobytes())
    refused(ask("POST", "/v2/models/many/infer", body, headers), 400, "small", "binary_data = true")


def test_a_raw_binary_request(ask):
    row = X[:1]
    status, headers, body = ask("POST", NULL, row.tobytes(), {"Inference-Header-Content-Length": "0"})
    assert status == 200, body
    length = int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:length])["outputs"][0]["shape"] == [1, 2]
    found = ask("POST", NULL, row.tobytes()[:-1], {"Inference-Header-Content-Length": "0"})
    refused(found, 400, "15 bytes")
    found = ask("POST", "/v2/models/many/infer", b"abc", {"Inference-Header-Content-Length": "0"})
    refused(found, 400, "one input")


WRONG = {
    "no json": (b"{", ["JSON"]),
    "utf-16": ('{"inputs": []}'.encode("utf-16"), ["JSON"]),
    "a list": (b"[]", ["object"]),
    "deep": (b"[" * 200_000, ["deep"]),
    "deep inside": (b'{"inputs":' + b"[" * 50_000 + b"]" * 50_000 + b"}", ["deep"]),
    "a long number": (b'{"inputs": ' + b"9" * 10_000 + b"}", ["JSON"]),
    "no inputs": (b"{}", ["no list of inputs"]),
    "empty inputs": (b'{"inputs": []}', ["no list of inputs"]),
    "an input of text": (b'{"inputs": ["x"]}', ["object"]),
    "no name": ({"inputs": [{"shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}, ["name"]),
    "no shape": ({"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}, ["shape"]),
    "no data": ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4]}]}, ["neither data"]),
    "negative dims": ({"inputs": [{**in_json(), "shape": [-1, 4]}]}, ["at least 0"]),
    "dims of text": ({"inputs": [{**in_json(), "shape": ["3", 4]}]}, ["sizes"]),
    "dims that are true": ({"inputs": [{**in_json(), "shape": [True, 4]}]}, ["sizes"]),
    "huge dims": ({"inputs": [{**in_json(), "shape": [2**40, 2**40]}]}, ["too large"]),
    "huge dims of an empty tensor": (
        {"inputs": [{**in_json(), "shape": [0, 2**62, 2**62], "data": []}]},
        ["too large"],
    ),
    "many dims": ({"inputs": [{**in_json(), "shape": [1] * 100}]}, ["32"]),
    "a wrong count": ({"inputs": [{**in_json(), "shape": [2, 4]}]}, ["12 values", "8"]),
    "ragged data": ({"inputs": [{**in_json(), "data": [[1, 2], [3]]}]}, ["unequal"]),
    "mixed data": ({"inputs": [{**in_json(), "data": [[1, 2], 3]}]}, ["unequal"]),
    "text for numbers": ({"inputs": [{**in_json(), "data": ["a"] * 12}]}, ["str"]),
    "null for numbers": ({"inputs": [{**in_json(), "data": [None] * 12}]}, ["NoneType"]),
    "true for numbers": ({"inputs": [{**in_json(), "data": [True] * 12}]}, ["bool"]),
    "an unknown datatype": ({"inputs": [{**in_json(), "datatype": "FP8"}]}, ["FP8"]),
    "a datatype that is a list": ({"inputs": [{**in_json(), "datatype": ["FP32"]}]}, ["datatype"]),
    "another datatype": ({"inputs": [{**in_json(), "datatype": "INT32", "data": [1] * 12}]}, ["float32"]),
    "another name": ({"inputs": [{**in_json(), "name": "z"}]}, ["expected: x"]),
    "twice": ({"inputs": [in_json(), in_json()]}, ["twice"]),
    "one too many": ({"inputs": [in_json(), {**in_json(), "name": "z"}]}, ["expected: x"]),
    "another rank": ({"inputs": [{**in_json(), "shape": [12]}]}, ["2 dims"]),
    "another size": ({"inputs": [{**in_json(), "shape": [4, 3]}]}, ["must be 4"]),
    "no rows": ({"inputs": [{**in_json(), "shape": [0, 4], "data": []}]}, ["at least one row"]),
    "too many rows": ({"inputs": [{**in_json(), "shape": [100, 4], "data": [0] * 400}]}, ["1 to 8"]),
    "an unknown output": ({"inputs": [in_json()], "outputs": [{"name": "q"}]}, ["unexpected inference output 'q'"]),
    "outputs as text": ({"inputs": [in_json()], "outputs": "y"}, ["list"]),
    "an id that is a number": ({"inputs": [in_json()], "id": 7}, ["string"]),
    "a negative timeout": ({"inputs": [in_json()], "parameters": {"timeout": -1}}, ["timeout"]),
    "a priority of text": ({"inputs": [in_json()], "parameters": {"priority": "1"}}, ["priority"]),
    "a parameter that is a list": ({"inputs": [in_json()], "parameters": {"a": [1]}}, ["parameter 'a'"]),
    "shared memory of nobody": (
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"shared_memory_region": "r"}}]},
        ["Unable to find"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_are_refused_with_what_is_wrong(ask, name):
    body, words = WRONG[name]
    found = ask("POST", NULL, body)
    refused(found, 404 if name == "shared memory of nobody" else 400, *words)


BINARY = {
    "a header longer than the body": ({}, "1000", b"", ["1000"]),
    "too few bytes": ({"binary_data_size": 48}, None, b"x" * 40, ["40 bytes are left"]),
    "too many bytes": ({"binary_data_size": 48}, None, b"x" * 60, ["belong to no input"]),
    "bytes that do not fit the shape": ({"binary_data_size": 44}, None, b"x" * 44, ["44 bytes", "48"]),
    "a negative size": ({"binary_data_size": -1}, None, b"", ["-1"]),
    "a size of text": ({"binary_data_size": "48"}, None, b"x" * 48, ["48"]),
}


@pytest.mark.parametrize("name", BINARY)
def test_wrong_binary_requests(ask, name):
    parameters, length, tail, words = BINARY[name]
    body, headers = binary({"inputs": [tensor("x", X, "FP32", parameters=parameters)]}, tail)
    if length:
        headers["Inference-Header-Content-Length"] = length
    refused(ask("POST", NULL, body, headers), 400, *words)


@pytest.mark.parametrize("packed", [b"\x05\0\0\0abc", b"\x01\0", b"\0\0\0\0" * 5, b"\xff\xff\xff\xff"])
def test_broken_bytes_tensors(ask, packed):
    listed = tensor("text", np.empty((1, 1)), "BYTES", parameters={"binary_data_size": len(packed)})
    refused(ask("POST", "/v2/models/many/infer", *binary({"inputs": [listed]}, packed)), 400, "BYTES")


def test_numbers_out_of_range_and_infinities(ask):
    whole = {"name": "whole", "shape": [1, 3], "datatype": "INT32", "data": [2**31, 0, 0]}
    refused(ask("POST", "/v2/models/many/infer", {"inputs": [whole]}), 400, "INT32")
    x = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[Infinity,NaN,1e300,0]}]}'
    status, _, body = ask("POST", NULL, x)
    assert status == 200
    assert json.loads(body)["outputs"][0]["data"] == [np.inf, np.inf]


def test_large_json_is_read_beside_the_loop_and_answers_are_right(ask):
    text = np.array([["\x01" * 20_000]], dtype=object)
    inputs = [
        tensor("text", text, "BYTES", data=text.ravel().tolist()),
        tensor("whole", np.empty((1, 3)), "INT32", data=[0, 0, 0]),
        tensor("half", np.zeros((1, 2), np.float16), "FP16", parameters={"binary_data_size": 4}),
        tensor("flag", np.empty((1, 2)), "BOOL", data=[False, False]),
    ]
    found = ask("POST", "/v2/models/many/infer", *binary({"inputs": inputs, "outputs": [{"name": "sum"}]}, b"\0" * 4))
    assert found[0] == 200, found[2]
    assert json.loads(found[2])["outputs"][0]["data"] == [20_000.0]


def test_classification(ask, server):
    image = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    inputs = [tensor("image", image, "FP32", data=image.ravel().tolist())]
    plain = json.loads(ask("POST", "/v2/models/pictures/infer", {"inputs": inputs})[2])
    scores = np.array(plain["outputs"][0]["data"], np.float32).reshape(2, 5)
    outputs = [{"name": "scores", "parameters": {"classification": 2}}]
    (found,) = json.loads(ask("POST", "/v2/models/pictures/infer", {"inputs": inputs, "outputs": outputs})[2])[
        "outputs"
    ]
    assert (found["datatype"], found["shape"]) == ("BYTES", [2, 2])
    labels = server.repository.lookup("pictures").parts.labels
    for row in range(2):
        best = int(scores[row].argmax())
        assert found["data"][2 * row] == f"{scores[row, best]:f}:{best}:{labels[best]}"
    outputs[0]["parameters"]["classification"] = 0
    refused(ask("POST", "/v2/models/pictures/infer", {"inputs": inputs, "outputs": outputs}), 400, "classification")


# Pictures


def picture(form="JPEG", size=(57, 43), seed=0, **more):
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((size[0], size[1])).save(stream, form, **more)
    return stream.getvalue()


def expected_scores(server, contents):
    """What the bundle's own transform and session give."""
    from assay.data import transform_from_json

    served = server.repository.lookup("pictures")
    transform = transform_from_json(json.loads((server.bundle / "preprocess.json").read_text()))
    rows = np.stack([transform(content) for content in contents])
    done = []
    gate = threading.Event()
    served.parts.queue.submit({"image": rows}, lambda found: (done.extend(found), gate.set()))
    assert gate.wait(10)
    return done[0].outputs["scores"]


@pytest.fixture
def shown(server, classifier):
    server.bundle = classifier
    return server


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_predict_takes_a_picture(ask, shown, form):
    content = picture(form)
    status, _, body = ask("POST", "/predict/pictures?top=3", content)
    assert status == 200, body
    found = json.loads(body)
    assert len(found["predictions"]) == 3
    (scores,) = expected_scores(shown, [content])
    wide = np.exp(scores.astype(np.float64) - scores.max())
    best = int(scores.argmax())
    assert found["predictions"][0]["class"] == best
    assert found["predictions"][0]["label"] == shown.repository.lookup("pictures").parts.labels[best]
    assert found["predictions"][0]["probability"] == pytest.approx((wide / wide.sum()).max(), rel=1e-12)


def test_a_bytes_tensor_of_pictures_has_the_bits_of_the_bundles_own_transform(ask, shown):
    contents = [picture(seed=1), picture("PNG", (32, 90), seed=2), picture(seed=3, quality=40, progressive=True)]
    packed = b"".join(struct.pack("<I", len(c)) + c for c in contents)
    request = {
        "inputs": [
            {"name": "image", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": len(packed)}}
        ],
        "parameters": {"binary_data_output": True},
    }
    status, headers, body = ask("POST", "/v2/models/pictures/infer", *binary(request, packed))
    assert status == 200, body
    length = int(headers["Inference-Header-Content-Length"])
    assert body[length:] == expected_scores(shown, contents).tobytes()


def test_a_raw_picture_to_infer(ask, shown):
    content = picture(seed=4)
    status, headers, body = ask("POST", "/v2/models/pictures/infer", content, {"Inference-Header-Content-Length": "0"})
    assert status == 200, body
    length = int(headers["Inference-Header-Content-Length"])
    assert body[length:] == expected_scores(shown, [content]).tobytes()


def test_what_is_no_picture_is_refused(ask):
    good = picture()
    refused(ask("POST", "/predict/pictures", b"hello"), 400, "no JPEG")
    refused(ask("POST", "/predict/pictures", b""), 400, "--data-binary")
    refused(ask("POST", "/predict/pictures", good[: len(good) // 3]), 400)
    refused(ask("POST", "/predict/pictures", picture("TIFF")), 400, "no JPEG")
    refused(ask("POST", "/predict/pictures?top=0", good), 400, "top")
    refused(ask("POST", f"/predict/pictures?{'&'.join(['a=1'] * 30)}", good), 400, "at most 20 fields")
    refused(ask("POST", "/predict/pictures", good, {"Content-Type": "multipart/form-data"}), 400, "--data-binary")
    refused(ask("POST", "/predict/null", good), 400, "no transform")
    refused(ask("POST", "/predict/nobody", good), 404, "nobody")


def test_pixels_are_counted_before_decoding(ask, running, classifier):
    content = picture("PNG", (200, 200))
    with running({"model": [{"source": str(classifier), "name": "p"}], "max_pixels": 39_999}) as small:
        refused(ask("POST", "/predict/p", content, port=small.port), 400, "200×200", "39999")
        assert ask("POST", "/predict/p", picture("PNG", (199, 200)), port=small.port)[0] == 200


# The schedule policy


def test_a_deadline_that_cannot_be_met_is_refused_at_once(ask, server):
    request = {"inputs": [in_json()], "parameters": {"timeout": 1}}
    status, _, body = ask("POST", NULL, request)
    assert status == 503, body
    request["parameters"] = {"timeout": 10_000_000, "priority": 1}
    assert ask("POST", NULL, request)[0] == 200
    request["parameters"] = {"priority": 99}  # beyond the levels there are: the default one
    assert ask("POST", NULL, request)[0] == 200


def test_scores_without_a_largest_finite_one_have_no_probabilities():
    for wrong in ([1.0, np.inf, 0.0], [-np.inf, -np.inf], [0.0, np.nan], []):
        with pytest.raises(ServeError):
            ranked(np.array(wrong, np.float32), 3, None)
    (best, *_, worst) = ranked(np.array([2.0, -np.inf, 1.0], np.float32), 3, ("a", "b", "c"))
    assert (best["label"], worst["label"], worst["probability"]) == ("a", "b", 0.0)
