"""Documents: what their words say about the logs in them, and what importing them must find unaided."""

import pytest

from assay.importers import detect, import_files


def of_kind(imported, kind):
    return [f for f in imported.findings if f.kind == kind]


def cells(findings):
    """{(device, batch)} out of texts such as "T4 at batch 8 …"."""
    return {(words[0], int(words[3])) for words in (f.text.split() for f in findings)}


@pytest.fixture
def comparison(load):
    return load("document_card_comparison.md")


def test_eleven_cells_are_contradicted(comparison):
    found = of_kind(comparison, "cell-contradicted")
    expected = {(d, b) for d in ("310", "T4") for b in (1, 4, 8, 16, 32)} | {("310P", 1)}
    assert cells(found) == expected
    assert len(found) == 11
    assert all(f.severity == "contradiction" for f in found)
    t4 = next(f for f in found if f.text.startswith("T4 at batch 1 "))
    assert t4.figures["cell"] == 280.845
    assert t4.figures["log"] == 231.086
    assert t4.figures["difference"] == pytest.approx(0.2153, abs=1e-4)
    card = next(f for f in found if f.text.startswith("310 at batch 1 "))
    assert card.figures["log"] == pytest.approx(1055.488)
    assert next(f for f in found if f.text.startswith("310P")).figures["log"] == 624.486


def test_three_cells_have_no_log_and_a_best_rests_on_one(comparison, fixture_file):
    assert cells(of_kind(comparison, "cell-without-log")) == {("310", 64), ("310P", 64), ("T4", 64)}
    (best,) = of_kind(comparison, "best-without-log")
    assert best.figures == {"best": 1918.7328, "batch": 64.0}
    line = int(best.where.rsplit(":", 1)[1])
    assert fixture_file("document_card_comparison.md").read_text().split("\n")[line - 1].startswith("| 最优")


def test_the_ratios_that_the_logs_give(comparison):
    ratios = {f.text.split()[2]: f.figures for f in of_kind(comparison, "ratio-contradicted")}
    assert ratios["310"]["derived"] == pytest.approx(1.367, abs=5e-4)
    assert ratios["310"]["claimed"] == pytest.approx(1.339, abs=5e-4)
    assert ratios["T4"]["derived"] == pytest.approx(2.068, abs=5e-4)
    assert ratios["T4"]["claimed"] == pytest.approx(2.036, abs=5e-4)
    (hidden,) = of_kind(comparison, "best-batch-hides")
    assert hidden.figures == pytest.approx({"batch 1": 0.5917, "batch 4": 0.9607}, abs=1e-4)


def test_the_log_is_launch_bound_and_not_of_the_claimed_version(comparison):
    (bound,) = of_kind(comparison, "launch-bound")
    assert bound.figures["share"] == pytest.approx(0.983, abs=1e-3)
    (version,) = of_kind(comparison, "version-contradicts-format")
    assert "7.2.3.4" in version.text
    (two,) = of_kind(comparison, "two-derivations")
    assert two.figures == pytest.approx({"measured": 231.086, "computed": 232.939}, abs=1e-3)


def test_nothing_else_is_called_a_contradiction(comparison):
    kinds = [f.kind for f in comparison.findings if f.severity == "contradiction"]
    assert sorted(set(kinds)) == ["cell-contradicted", "ratio-contradicted", "version-contradicts-format"]
    assert comparison.warnings == ()


def test_device_batch_precision_and_model_come_from_the_words_around(comparison):
    scores = [r for r in comparison.records if r.kind == "evaluate" and r.conditions["tool"] == "vision_metric"]
    places = [(r.subject["device_name"], r.subject["batch"], r.value("accuracy.top5")) for r in scores]
    assert places == [("310", 1, 0.9372), ("310", 16, 0.9375), ("310P", 1, 0.9373), ("310P", 16, 0.9372)]
    assert {r.conditions["scored_from"] for r in scores} == {"result/dumpOutput_device0"}
    (log,) = [r for r in comparison.records if r.conditions.get("basis") == "with copies"]
    subject = [log.subject[k] for k in ("device_name", "batch", "precision", "model")]
    assert subject == ["T4", 1, "fp16", "RegNetY-1.6GF"]
    logs = [r for r in comparison.records if r.conditions["tool"] == "benchmark" and r.conditions["scope"] != "card"]
    assert {(r.subject["device_name"], r.subject["batch"]) for r in logs} == {
        *(("310", b) for b in (1, 4, 8, 16, 32)),
        ("310P", 1),
    }


def test_a_repeated_log_counts_once(load):
    records = load("document_acceptance_rule.md").records
    (die,) = [r for r in records if r.conditions.get("scope") == "die" and r.conditions["basis"] == "device-only"]
    log = die.conditions["source_log"]
    assert len(log["repeated"]) == 1
    assert log["repeated"][0][0] > log["lines"][1]


def test_identical_accuracies_and_a_verdict_without_figures(load):
    imported = load("document_acceptance_rule.md")
    (same,) = of_kind(imported, "identical-accuracy")
    assert same.severity == "suspect"
    assert same.figures == pytest.approx({"error@1": 0.0578, "error@5": 0.0015})
    assert "result/dumpOutput_device0" in same.text
    verdicts = of_kind(imported, "verdict-not-checked")
    assert [v.figures["at_least"] for v in verdicts] == [1.2, 1.6]
    assert all(v.text.startswith("not checked: 310P") for v in verdicts)
    assert cells(of_kind(imported, "cell-without-log")) == {("310", 16), ("T4", 16)}
    assert of_kind(imported, "cell-contradicted") == []


def test_the_rule_is_checked_once_the_figures_are_there(tmp_path, fixture_file):
    text = fixture_file("document_acceptance_rule.md").read_text()
    more = tmp_path / "more.md"
    more.write_text(text.replace("710: without the factor 4", "batch16 710单卡吞吐率：7000fps"))
    imported = import_files([more])
    assert of_kind(imported, "verdict-not-checked") == []
    found = [f.figures["found"] for f in of_kind(imported, "rule-met")]
    assert found == pytest.approx([7000 / 3239.252, 7000 / 1805.315], rel=1e-4)


def test_a_table_of_backbones(load):
    imported = load("document_backbones.md")
    assert {(r.subject["device_name"], r.subject["precision"]) for r in imported.records} == {("T4", "fp16")}
    (row,) = of_kind(imported, "mislabelled-row")
    (stall,) = of_kind(imported, "stall")
    (usage,) = of_kind(imported, "cpu-usage-0")
    assert row.figures == {"called": 50.0, "is": 40.0}
    assert stall.text.startswith("convnextv2_tiny")
    assert stall.figures["requests"] == 40
    assert usage.figures["duration_s"] == pytest.approx(2.38, abs=0.01)
    assert "resnet18" in usage.text
    assert len(imported.findings) == 3


def test_the_documents_do_not_mix(fixture_file):
    names = ("document_backbones.md", "document_card_comparison.md", "document_acceptance_rule.md")
    together = import_files([fixture_file(n) for n in names])
    alone = [f for n in names for f in import_files([fixture_file(n)]).findings]
    assert sorted(f.text for f in together.findings) == sorted(f.text for f in alone)


def test_a_document_without_measurements_warns(load):
    imported = load("document_without_figures.md")
    assert imported.records == ()
    assert imported.findings == ()
    assert "no measurement" in imported.warnings[0]


def test_a_long_table_in_english(load):
    imported = load("document_english.md")
    rates = {
        (r.subject["device_name"], r.subject["batch"]): r.value("throughput")
        for r in imported.records
        if r.value("throughput")
    }
    assert rates == {("A100", 1): 1000.5, ("A100", 8): 4000.0, ("L4", 1): 500.0}
    latencies = [r.value("latency.stated") for r in imported.records if r.value("latency.stated")]
    assert latencies == pytest.approx([1.2e-3, 2.1e-3, 2.3e-3])
    assert {r.subject["precision"] for r in imported.records if r.kind == "measure"} == {"fp16"}
    (claim,) = of_kind(imported, "ratio-contradicted")
    assert claim.figures["derived"] == pytest.approx(8.0)
    assert claim.figures["claimed"] == 2.5
    (rule,) = of_kind(imported, "rule-met")
    assert rule.figures == {"at_least": 2.0, "found": 8.0}
    assert of_kind(imported, "table-without-logs")


def test_a_table_is_held_against_the_logs_of_other_files(tmp_path, fixture_file):
    table = tmp_path / "table.md"
    table.write_text("# Speed\n\n## Throughput\n\n| | 310 | T4 |\n|--|--|--|\n| bs16 | 2900.1 | 12.5 |\n\nAscend 310\n")
    log = tmp_path / "310.md"
    text = fixture_file("perf_vision_batchsize_16_device_1.txt").read_text()
    log.write_text(f"# Ascend 310\n\n## batch 16\n\n```\n{text}```\n")
    found = import_files([table, log])
    (contradicted,) = of_kind(found, "cell-contradicted")
    assert contradicted.figures["log"] == pytest.approx(2858.056)
    assert cells(of_kind(found, "cell-without-log")) == {("T4", 16)}


def test_arithmetic_in_words_is_checked(load_text):
    imported = load_text("# T4 results\n\n## Throughput\n\nbatch4 T4 throughput: 184.037 * 4 = 746.148 qps\n", "a.md")
    (finding,) = of_kind(imported, "arithmetic")
    assert finding.figures["derived"] == pytest.approx(736.148)
    assert finding.where.endswith("a.md:5")
    right = load_text("# T4 results\n\n## Throughput\n\nbatch4 T4 throughput: 184.037 * 4 = 736.1 qps\n", "b.md")
    assert right.findings == ()


def test_a_statement_that_its_log_contradicts(load_text, fixture_file):
    text = fixture_file("trtexec_8_2.txt").read_text()
    document = f"# T4\n\n## batch4\n\n```\n{text}```\n\nbatch4 T4 throughput: 999 qps\n"
    (finding,) = of_kind(load_text(document, "a.md"), "statement-contradicted")
    assert finding.figures == pytest.approx({"text": 999.0, "log": 924.0})


def test_a_best_row_and_a_ratio_that_their_own_table_contradicts(load_text):
    document = (
        "# Speed\n\n## Throughput\n\n| | A100 | L4 | A100/L4 |\n|--|--|--|--|\n"
        "| bs1 | 100 | 50 | 3.0 |\n| bs8 | 300 | 90 | 3.333 |\n| best | 200 | 90 | 2.222 |\n"
    )
    imported = load_text(document, "a.md")
    assert of_kind(imported, "best-is-not-the-highest")[0].figures == {"best": 200.0, "highest": 300.0}
    assert [f.figures["cells"] for f in of_kind(imported, "ratio-arithmetic")] == [pytest.approx(2.0)]


def test_a_broken_log_inside_a_document_is_left_out_and_said(load_text, fixture_file):
    text = fixture_file("trtexec_8_2.txt").read_text().replace("231.0000 qps", "quick qps")
    imported = load_text(f"# T4\n\n## batch4\n\n```\n{text}```\n", "a.md")
    assert imported.records == ()
    assert any("a.md:10: " in w and "left out" in w for w in imported.warnings)


def test_a_document_is_recognised_before_the_logs_in_it(fixture_file):
    found = detect(fixture_file("document_card_comparison.md"))
    assert found[0].name == "markdown"
    assert {d.name for d in found} >= {"trtexec", "ascend-benchmark"}


def test_words_around_a_log_that_its_tool_cannot_mean(load_text, fixture_file):
    printed = fixture_file("torchpipe_dict.txt").read_text()
    document = f"# Serving\n\n## requests prepared on the CPU, engine batch size 8\n\n```\n{printed}```\n"
    subjects = [r.subject for r in load_text(document, "a.md").records]
    assert len(subjects) == 4
    assert {(s["device_name"], s["batch"]) for s in subjects} == {(None, None)}


def test_a_csv_below_the_command_that_made_it(load_text, fixture_file):
    csv = fixture_file("perf_analyzer.csv").read_text()
    imported = load_text(
        f"# Load\n\n## T4\n\n```\n$ perf_analyzer -m net -f perf.csv\n$ cat perf.csv\n{csv}```\n", "a.md"
    )
    assert [r.conditions["source_log"]["lines"] for r in imported.records] == [[9, 9], [10, 10], [11, 11]]
    assert {r.subject["device_name"] for r in imported.records} == {"T4"}


def test_links_in_cells_are_their_words(load_text):
    table = "| model | batch size | throughput |\n|--|--|--|\n| [net](https://example.org/net) | 8 | **120.5** |\n"
    (record,) = load_text(f"# Speed\n\n## Throughput\n\n{table}", "a.md").records
    assert (record.subject["model"], record.subject["batch"], record.value("throughput")) == ("net", 8, 120.5)


def test_a_processor_named_above_is_not_what_torchpipe_measured(load_text):
    table = "|  | net |\n|--|--|\n| num_clients | 10 |\n| total_number | 1000 |\n| throughput::qps | 1000 |\n"
    text = f"# Results\n\n## Machine\n\nCPU: Xeon 8163, batch size 8\n\n{table}"
    (record,) = load_text(text, "r.md").records
    assert (record.subject["device_name"], record.subject["batch"]) == (None, None)
    (record,) = load_text(text, "r.md", device="T4", batch=4).records
    assert (record.subject["device_name"], record.subject["batch"]) == ("T4", 4)


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("python3 -m pip install timm", None),
        ("onnxruntime_perf_test -m times -r 100 x", None),
        ("a cross-model comparison", None),
        ("benchmark_app -m ./resnet50.xml -d CPU", "resnet50"),
        ("python infer.py --model resnet50_bs8.om", "resnet50"),
        ("perf_analyzer -u host:8001 -m resnet50 -b 8", "resnet50"),
        ("call `--model resnet50`", "resnet50"),
    ],
)
def test_a_model_is_what_a_command_opens(load_text, line, model):
    text = f"# Performance\n\n{line}\n\n## Throughput\n\n| batch | T4 |\n|--|--|\n| 1 | 100 |\n| 4 | 200 |\n"
    assert {r.subject["model"] for r in load_text(text, "m.md").records} == {model}


def test_words_far_above_are_not_around_a_table(load_text):
    """A document may be long and have no headings."""
    table = "| batch | throughput (fps) |\n|--|--|\n| 1 | 100 |\n| 4 | 200 |\n"
    for lines, device in ((150, "T4"), (250, None)):
        words = "\n\n".join(f"paragraph {i}" for i in range(lines))
        text = f"```\nx\n```\n\nOn a T4 in fp16:\n\n{words}\n\n{table}\n```\nx\n```\n"
        assert {r.subject["device_name"] for r in load_text(text, "long.md").records} == {device}
