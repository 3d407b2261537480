import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.record import Figure, Record, withheld
from assay.core.verdict import Reason, combine
from assay.present import html, markdown
from assay.present.html_data import to_script
from assay.present.rows import NOT_CHECKED_SPEED, Report
from assay.present.series import Series

from .conftest import measured, subject, verified

HOSTILE = "</script><img src=x onerror=alert(1)>' \" & [x] %{y}"
LIMIT_BYTES = 5_000_000


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._inside = [], [], None
        self.scripts = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text.append(data)

    def handle_endtag(self, tag):
        self._inside = None

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def payload(text):
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


def test_the_page_stands_alone(report):
    page = Page(html.render(report))
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed"), tag
        for name in ("src", "href"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or ""), attributes
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "connect-src" not in policy
    assert any("plotly.js" in text and "MIT license" in text for text in page.scripts)


def test_verdict_reasons_and_what_was_not_checked_come_before_the_table(report):
    words = Page(html.render(report)).words
    order = [words.index(part) for part in ("passed", "the drop is", "latency: no limit was given", "Candidates")]
    assert order == sorted(order)
    for part in ("a fresh run made after the choice", "Weights: a checkpoint", "net.py", "tensorrt fp16: no GPU"):
        assert part in words
    assert "assay run timm:resnet18 --data digits" in words


def test_the_table_reads_without_its_script(report):
    text = html.render(report)
    table = text[text.index('<table id="candidates">') : text.index("</table>")]
    words = Page(table).words
    for part in ("onnxruntime fp32", "390", "98.67 %", "not checked", "within format cost", "stable", "skipped"):
        assert part in words, part
    assert words.index("torch fp32") < words.index("onnxruntime fp32")


def test_a_speed_that_was_not_checked_is_not_in_the_table():
    report = Report("m", (measured("torch", throughput=123457.0),))
    text = html.render(report)
    shown = text[: text.index('id="payload"')]
    assert "123,457" not in shown and "123457" not in shown
    assert NOT_CHECKED_SPEED in shown
    assert payload(text)["rows"][0]["figures"] == {"memory": payload(text)["rows"][0]["figures"]["memory"]}
    assert "123,457" in html.render(replace(report, records=(*report.records, verified("torch"))))


def test_no_verdict_and_no_records_are_said():
    words = Page(html.render(Report("m", ()))).words
    for part in ("No verdict", "Nothing was judged", "No candidate was built or measured", "There are no records"):
        assert part in words


def test_hostile_names_and_labels_stay_text():
    named = {**subject(HOSTILE), "candidate": "c"}
    records = (
        Record("verify", named, figures={"numeric.relative_rms": Figure(1e-7, "1")}, details={"class": HOSTILE}),
        Record("measure", named, figures=measured("torch").figures, label=HOSTILE, warnings=(HOSTILE,)),
        Record("build", {"engine": HOSTILE}, status="failed", reason=HOSTILE),
        Record(
            "evaluate",
            named,
            details={"flipped": [{"id": HOSTILE, "lost": True, "reference": {HOSTILE: HOSTILE}}], "n": HOSTILE},
            environment={HOSTILE: HOSTILE},
        ),
    )
    about = {"command": f"assay run {HOSTILE}", "weights": HOSTILE, "missing": [HOSTILE]}
    verdict = combine([Reason(HOSTILE, "failed", HOSTILE, HOSTILE)], [HOSTILE])
    series = {records[1].id: Series(reason=HOSTILE)}
    text = html.render(Report(HOSTILE, records, verdict, about=about, series=series))
    page = Page(text)
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert text.count("</script>") == 3
    assert HOSTILE in page.words
    assert payload(text)["title"] == HOSTILE


@given(
    st.recursive(st.text() | st.floats() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_embedded_json_is_whole_and_cannot_leave_its_element(value):
    text = to_script(value)
    assert not set("<>&\u2028\u2029") & set(text)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_every_row_leads_to_its_records_and_its_command(report):
    data = payload(html.render(report))
    ids = {r["id"] for r in data["records"]}
    assert ids == {r.id for r in report.records}
    rows = {(r["name"], r["batch"]): r for r in data["rows"]}
    chosen = rows["onnxruntime fp32", 8]
    assert chosen["chosen"] and "confirm-onnxruntime-fp32-8" in chosen["records"]
    assert chosen["command"] == (
        "assay run timm:resnet18 --data digits --engine onnxruntime --precision fp32 --batch 8"
    )
    assert rows["openvino fp16", None]["command"] is None


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("assay run n.py:f --engine a,b --batch=1,8 --out x --debug", "assay run n.py:f"),
        ("assay run n.py:f --json --quick", "assay run n.py:f"),
        ("assay run n.py:f --json r.json --seed 3", "assay run n.py:f --seed 3"),
        ("assay bench n.py:f", None),
        ("assay run 'unclosed", None),
        (None, None),
    ],
)
def test_a_row_is_measured_again_by_the_command_held_to_it(report, command, expected):
    data = payload(html.render(replace(report, about={"command": command})))
    found = next(r["command"] for r in data["rows"] if r["name"] == "torch fp32")
    assert found == (expected and f"{expected} --engine torch --precision fp32 --batch 1")


def test_hundreds_of_large_records_stay_under_the_limit():
    large = {"blob": "x" * 5000}
    records = [
        replace(measured("torch", batch=i + 1), id=f"m{i}", details=large, environment={"load": i % 7})
        for i in range(800)
    ]
    text = html.render(Report("m", (verified("torch"), *records), series={"m0": Series((1.0, 2.0), (5,), n=5)}))
    assert len(text.encode()) < LIMIT_BYTES
    data = payload(text)
    assert len(data["records"]) == 801 and len(data["environments"]) == 8
    left_out = [r for r in data["records"] if "left out" in r["details"]]
    assert 0 < len(left_out) < 800 and "records.jsonl" in left_out[0]["details"]["left out"]
    assert data["series"]["m0"]["n"] == 5


def test_not_a_number_becomes_a_word():
    record = Record("measure", subject("torch"), details={"x": float("nan")}, figures={"y": withheld("s", "no")})
    assert payload(html.render(Report("m", (record,))))["records"][0]["details"] == {"x": "nan"}


def imported(batch, rate, scope="device", **more):
    named = {"model": "net", "candidate": "imported-1", "engine": "ascend", "device_name": "310"}
    conditions = {"imported": True, "batch": batch, "basis": "device-only", "scope": scope, "how": "measured", **more}
    return Record("measure", named, figures={"throughput": Figure(rate, "samples/s")}, conditions=conditions)


def test_imported_figures_are_shown_as_what_they_are_with_what_was_found_about_them():
    records = (
        imported(1, 263.9, "die"),
        imported(1, 1055.5, "card", how="extrapolated"),
        imported(1, 1132.6, evidence="table", basis="not stated"),
    )
    findings = [
        {"severity": "note", "text": "a remark", "where": "a.txt:1"},
        {"severity": "contradiction", "text": "1132.6 is contradicted", "where": "a.txt:7"},
    ]
    report = Report("logs", records, about={"findings": findings})
    text = html.render(report)
    words = Page(text).words
    for part in ("264", "1,056", "1,133", "device-only, die", "device-only, card, extrapolated", "table", "imported"):
        assert part in words, part
    assert words.index("1132.6 is contradicted") < words.index("a remark") < words.index("Every speed stands")
    assert "a.txt:7" in words and words.count("not checked") >= 3
    assert "**contradiction** a.txt:7: 1132.6 is contradicted" in markdown.render(report)


def test_the_vendored_library_is_the_one_its_page_names_with_its_licence():
    assets = resources.files("assay.present").joinpath("assets")
    library = assets.joinpath("plotly-basic.min.js").read_bytes()
    page = assets.joinpath("README.md").read_text()
    assert hashlib.sha256(library).hexdigest() in page
    assert f"v{re.search(r'plotly.js ([0-9.]+),', page)[1]}".encode() in library[:200]
    assert "MIT License" in assets.joinpath("plotly-basic.LICENSE.txt").read_text()
