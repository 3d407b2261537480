"""report.html opened in a real browser: no errors, no network, it sorts, filters, draws and explains."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay.core.record import Figure, RawSamples, Record
from assay.core.verdict import Reason, combine
from assay.job.raw_series import condense
from assay.job.reporting import fronts_of
from assay.present.evidence import Divergence, Errors, Evidence, Operator, StageBar, StageError, Waterfall
from assay.present.html import render
from assay.present.rows import Report, table_rows

DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhf"
    "DwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">"
ENGINES = ("torch", "onnxruntime", "openvino", HOSTILE)
BATCHES = (1, 2, 4, 8, 16, 32)


PLOTS = ("speedup", "batch", "latency", "accuracy", "histogram", "timeline", "numerics", "drop")


def records_of(engine: str, precision: str, speed: float) -> list[Record]:
    subject = {
        "model": HOSTILE,
        "candidate": f"digest-{ENGINES.index(engine)}-{precision}",
        "engine": engine,
        "precision": precision,
        "device": "cpu",
        "device_name": "a cpu",
    }
    environment = {"cpu": "a cpu", "versions": {"numpy": "2"}, "note": HOSTILE}
    verify = Record(
        "verify",
        subject,
        figures={"numeric.relative_rms": Figure(1e-6 * speed, "ratio")},
        conditions={"reference": "torch fp32"},
        details={"class": "within tolerance", "tolerance": {"max_relative_rms": 1e-3}},
        environment=environment,
    )
    evaluate = Record(
        "evaluate",
        subject,
        figures={
            "accuracy.top1": Figure(0.99 - speed / 1000, "fraction", 0.9, 0.999, 0.95, 500),
            "accuracy.drop": Figure(speed / 1000, "fraction", -0.001, 0.02, 0.95, 500),
        },
        details={
            "n": 500,
            "lost": 1,
            "won": 0,
            "flips": 1,
            "mcnemar_p": 1.0,
            "flipped": [
                {"id": HOSTILE, "lost": True, "reference": {"label": HOSTILE}, "candidate": {"label": 2}},
                {
                    "id": "pictured",
                    "lost": False,
                    "reference": {"target": 1, "top5": [0, 1]},
                    "candidate": {"top5": [1]},
                },
            ],
        },
        environment=environment,
    )
    found = [verify, evaluate]
    for batch in BATCHES:
        for scenario in ("latency", "offline"):
            rate = 100 * speed * batch**0.5
            figures = {
                "throughput": Figure(rate, "samples/s", 0.97 * rate, 1.03 * rate, 0.95, 900),
                "latency.p50": Figure(batch / rate, "s", 0.98 * batch / rate, 1.02 * batch / rate, 0.95, 900),
                "latency.p99": Figure(2 * batch / rate, "s"),
                "speedup.eager": Figure(speed, "ratio", 0.95 * speed, 1.05 * speed, 0.95, 900),
                "speedup.torch_compile": Figure(speed / 2, "ratio", 0.45 * speed, 0.55 * speed, 0.95, 900),
                "memory.peak": Figure(1e8, "B"),
            }
            conditions = {"scenario": scenario, "batch": batch}
            found.append(
                Record(
                    "measure",
                    {**subject, "batch": batch},
                    figures=figures,
                    conditions=conditions,
                    environment=environment,
                    label="stable" if batch < 16 else HOSTILE,
                    raw=RawSamples(f"samples/{HOSTILE}.npz", "0" * 64, "s"),
                )
            )
    return found


def evidence_of(records: list[Record]) -> Evidence:
    """What stands beside the table, with a hostile name wherever a name can be."""
    verified = [r for r in records if r.kind == "verify"]
    stages = (
        StageBar("read", 0, 1e-4),
        StageBar("infer", 1e-4, 2e-3, 400.0, 0.8, 500.0),
        StageBar(HOSTILE, 2e-3, 1e-5),
    )
    operators = [Operator(f"t{i}", f"Conv c{i}", 1e-3 if i == 9 else None, 2e-7 * (i + 1), 1e-5, i == 9, HOSTILE)
                 for i in range(30)]  # fmt: skip
    rows = (
        StageError("export", "within its due", 0.0, 1e-6, 0.0),
        StageError(HOSTILE, "beyond its due", 1e-2, 1e-5, 1e-2),
    )
    return Evidence(
        tuple(Waterfall(verified[i].id, f"case {i} {HOSTILE}", 390.0, stages, HOSTILE) for i in range(2)),
        tuple(
            Errors(
                r.id,
                " ".join((r.subject["engine"], r.subject["precision"])),
                r.subject["engine"],
                r.subject["precision"],
                output,
                "8",
                ((-20, 40), (-18, 50)),
                10,
                100,
            )
            for r in verified
            for output in ("y", HOSTILE)
        ),
        (Divergence(verified[0].id, HOSTILE, HOSTILE, rows, tuple(operators), (HOSTILE,)),),
        {"pictured": DOT, "hostile": 'data:image/png;base64,x"); } body { display: none'},
        ("cat", HOSTILE),
    )


@pytest.fixture(scope="session")
def report() -> Report:
    """Four engines in three precisions at six batch sizes: 168 records, every name of the fourth hostile."""
    records = [
        record
        for i, engine in enumerate(ENGINES)
        for j, precision in enumerate(("fp32", "bf16", "int8"))
        for record in records_of(engine, precision, 1.0 + i + 0.3 * j)
    ]
    skipped = {"model": HOSTILE, "engine": HOSTILE, "precision": "fp16", "device": "cpu"}
    records.append(Record("build", skipped, status="skipped", reason=HOSTILE))
    timings = np.random.default_rng(0).lognormal(-7, 0.3, 2000)
    report = Report(
        HOSTILE,
        tuple(records),
        combine([Reason(HOSTILE, "passed", HOSTILE, records[0].id)], [HOSTILE], "digest-2-bf16"),
        chosen="digest-2-bf16",
        chosen_batch=8,
        about={"command": f"assay run net.py:net --data '{HOSTILE}' --out x --json", "warnings": [HOSTILE]},
        series={r.id: condense(timings) for r in records if r.kind == "measure"},
        evidence=evidence_of(records),
    )
    return replace(report, fronts=fronts_of(table_rows(report)))


@pytest.fixture(scope="session")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, page):
    def emulate(width=1400, height=1000, dark=False):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get_log("performance")
        browser.get("about:blank")
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.dataset.ready") == "1"
        return browser

    return emulate


def script(browser, text):
    return browser.execute_script(f"return {text}")


def column(browser, header, attribute="sort"):
    return script(
        browser,
        f"""(() => {{
        const heads = [...document.querySelectorAll('#candidates thead th')].map(th => th.textContent);
        const i = heads.indexOf({json.dumps(header)});
        return [...document.querySelectorAll('#candidates tbody tr')].filter(tr => !tr.hidden)
          .map(tr => tr.cells[i].dataset.{attribute} ?? null);
    }})()""",
    )


def press_header(browser, header):
    browser.execute_script(
        "[...document.querySelectorAll('#candidates thead button')].find(b => b.textContent === arguments[0]).click()",
        header,
    )


def test_it_opens_without_errors_and_without_asking_the_network(opened):
    browser = opened()
    assert browser.get_log("browser") == []
    asked = [
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert asked, "the log shows not even the page itself"
    assert {url.partition(":")[0] for url in asked} <= {"file", "about", "data", "blob"}


def test_no_button_sends_data_away(opened):
    browser = opened()
    titles = script(browser, "[...document.querySelectorAll('.modebar-btn')].map(b => b.getAttribute('data-title'))")
    assert titles and set(titles) <= {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}
    assert script(browser, "document.getElementById('plot-batch')._context.plotlyServerURL") == ""


def test_hostile_names_stay_text(opened):
    browser = opened()
    assert script(browser, "document.querySelectorAll('img').length") == 0
    assert browser.title.startswith("</script><img")
    assert HOSTILE in script(browser, "document.querySelector('h1').textContent")
    labels = script(browser, "[...document.querySelectorAll('#plot-batch .legendtext')].map(t => t.textContent)")
    assert any("<img src=x" in text for text in labels)
    browser.execute_script("[...document.querySelectorAll('button[data-row]')].at(-2).click()")
    assert "onerror" in script(browser, "document.getElementById('drawer').textContent")
    assert script(browser, "document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_every_plot_is_drawn_and_nothing_sticks_out(opened, width, dark):
    browser = opened(width=width, dark=dark)
    for name in (*PLOTS, "waterfall", "errors", "operators"):
        marks = f"document.querySelectorAll('#plot-{name} .plot-container svg .trace').length"
        assert script(browser, marks) >= 1, name
        box = script(browser, f"document.querySelector('#plot-{name} svg').getBoundingClientRect().width")
        assert 200 < box <= width
    assert script(browser, "document.documentElement.scrollWidth") <= width
    background = script(browser, "getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.strip("rgba()").split(",")[:3]) / 3
    assert (brightness < 60) == dark
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [760, 1000])
def test_a_table_wider_than_the_window_is_scrolled_beside_the_names(opened, width):
    browser = opened(width=width)
    found = script(
        browser,
        """(() => {
        const table = document.getElementById('candidates'), box = table.parentElement, row = table.tBodies[0].rows[0];
        box.scrollIntoView({block: 'start', behavior: 'instant'});
        box.scrollLeft = box.scrollWidth;
        const [name, last] = [row.cells[0], row.cells[row.cells.length - 1]].map(c => c.getBoundingClientRect());
        const frame = box.getBoundingClientRect();
        const at = x => document.elementFromPoint(x, name.top + name.height / 2);
        return {
          overflows: box.scrollWidth > box.clientWidth, scrolled: box.scrollLeft,
          vertical: box.scrollHeight - box.clientHeight,
          left: name.left - frame.left, right: frame.right - last.right, width: name.width,
          shown: row.cells[0].contains(at(name.left + 12)), bare: !row.cells[1].contains(at(frame.left + 8)),
        };
    })()""",
    )
    assert found["overflows"] and found["scrolled"] > 0
    assert 0 <= found["left"] <= 24 and found["shown"] and found["bare"]
    assert found["right"] >= 0 and found["width"] < width / 2
    assert found["vertical"] == 0


def test_it_sorts_by_any_column_with_missing_values_last(opened):
    browser = opened()
    press_header(browser, "samples/s")
    found = column(browser, "samples/s")
    numbers = [float(v) for v in found if v is not None]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) == 72
    assert found[-1] is None
    press_header(browser, "samples/s")
    found = column(browser, "samples/s")
    assert [float(v) for v in found if v is not None] == sorted(numbers)
    assert found[-1] is None
    press_header(browser, "candidate")
    names = column(browser, "candidate")
    assert names[0] != names[-1] and names[0].startswith("</script>")


def test_it_filters_by_words_and_by_engine_and_the_plots_follow(opened):
    browser = opened()
    traces = "document.getElementById('plot-batch').data.length"
    every = script(browser, traces)
    browser.execute_script(
        "const f = document.getElementById('filter'); f.value = 'openvino bf16'; f.dispatchEvent(new Event('input'))"
    )
    assert column(browser, "candidate") == ["openvino bf16"] * len(BATCHES)
    assert "6 of 73 shown" in script(browser, "document.getElementById('count').textContent")
    assert script(browser, traces) == 1 < every
    browser.execute_script(
        "const f = document.getElementById('filter'); f.value = ''; f.dispatchEvent(new Event('input'));"
        "[...document.querySelectorAll('.toggle')].find(b => b.textContent === 'torch').click();"
        "[...document.querySelectorAll('.toggle')].find(b => b.textContent === 'int8').click()"
    )
    assert set(column(browser, "candidate")) == {"torch int8"}


def test_every_cell_of_a_speed_leads_to_its_raw_record(opened, report):
    browser = opened()
    ids = column(browser, "samples/s", "record")
    by_id = {r.id: r for r in report.records}
    assert all(by_id[i].figures["throughput"].value for i in ids if i) and sum(i is not None for i in ids) == 72
    browser.execute_script("document.querySelector('#candidates td[data-label=\"samples/s\"][data-record]').click()")
    shown = script(browser, "document.querySelector('#drawer pre').textContent")
    assert json.loads(shown) == json.loads(json.dumps(by_id[ids[0]].to_json()))


def test_a_row_says_how_to_measure_it_again(opened):
    browser = opened()
    place = script(
        browser,
        "document.querySelector('#candidates tbody tr.chosen').dataset.row",
    )
    browser.execute_script(f"document.querySelector('button[data-row=\"{place}\"]').click()")
    assert script(browser, "document.querySelector('#drawer .command code').textContent").endswith(
        "--engine openvino --precision bf16 --batch 8"
    )


def test_it_prints_with_everything_open_and_light(opened):
    browser = opened(dark=True)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(printed) > 50_000
    before = script(browser, "document.querySelectorAll('main details[open]').length")
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert script(browser, "document.querySelectorAll('#accuracy details:not([open])').length") == 0
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert script(browser, "document.querySelectorAll('main details[open]').length") == before
    assert browser.get_log("browser") == []


def test_pictures_of_changed_predictions_are_drawn_once_and_named(opened):
    browser = opened()
    shown = "[...document.querySelectorAll('.picture')].map(p => getComputedStyle(p).backgroundImage)"
    assert set(script(browser, shown)) == {f'url("{DOT}")'} and len(script(browser, shown)) == 12
    assert script(browser, "document.documentElement.innerHTML.split('iVBORw0KGgo').length - 1") == 1
    assert script(browser, "getComputedStyle(document.body).display") == "block"
    card = script(browser, "document.querySelector('.flip figcaption').textContent")
    assert "truth" in card and f"1 {HOSTILE}" in card and "0 cat" in card


def test_the_parts_beside_the_table_switch_and_lead_to_their_records(opened, report):
    browser = opened()
    browser.execute_script(
        "const s = document.getElementById('errors-case'); s.value = '1'; s.dispatchEvent(new Event('change'))"
    )
    names = script(browser, "document.getElementById('plot-errors').data.length")
    assert names == 12
    assert "10.00 % of 100 elements equal" in script(browser, "document.getElementById('errors-note').textContent")
    titles = script(browser, "[...document.getElementById('pipeline-case').options].map(o => o.textContent)")
    assert titles == [w.title for w in report.evidence.waterfalls]
    guilty = script(browser, "[...document.querySelectorAll('#divergence tbody tr')].map(r => r.textContent)")
    assert any("Conv c9" in text for text in guilty) and not any("Conv c8" in text for text in guilty)
    browser.execute_script("document.querySelector('#divergence a.evidence').click()")
    assert script(browser, "document.querySelector('#drawer details summary strong').textContent") == "verify"
    assert browser.get_log("browser") == []
