"""examples/deploy is not run here: its form is checked, and that it speaks of the server that there is."""

import copy
import re
import shlex
from pathlib import Path

import pytest
from tests.examples.deploy_schemas import schema_of

yaml = pytest.importorskip("yaml")
jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "deploy"
MANIFESTS = ("kubernetes.yaml", "kserve.yaml")


def documents(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def by_kind(name):
    return {document["kind"]: document for document in documents(name)}


def options(words):
    """What ``assay serve`` makes of these arguments; a wrong one raises."""
    from assay.cli.serve import command

    return command.make_context("serve", list(words), resilient_parsing=False).params


def dockerfile():
    """(instruction, rest) with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (FOLDER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_have_the_documented_form(name):
    found = documents(name)
    assert found
    for document in found:
        jsonschema.validate(document, schema_of(document))


def test_the_schemas_catch_what_they_are_for():
    good = by_kind("kubernetes.yaml")["Deployment"]
    for change in (
        lambda d: d["spec"].update(replica=3),
        lambda d: d["spec"]["template"]["spec"]["containers"][0].pop("image"),
        lambda d: d["spec"]["template"]["spec"]["containers"][0]["ports"][0].update(containerPort="8000"),
        lambda d: d["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].update(memory="2 GB"),
        lambda d: d["metadata"].update(name="ResNet_18"),
    ):
        broken = copy.deepcopy(good)
        change(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema_of(broken))


@pytest.mark.parametrize("name", [*MANIFESTS, "Dockerfile"])
def test_it_is_said_that_it_was_not_run(name):
    assert re.search(r"Not (run|built) here", (FOLDER / name).read_text().splitlines()[0])


def test_the_pod_and_the_server_agree():
    found = by_kind("kubernetes.yaml")
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = options(["/models/bundle", "--host", "0.0.0.0", *container["args"]])
    assert given["host"] == "0.0.0.0"
    drain_s = float(given["drain"].removesuffix("s"))
    assert pod["terminationGracePeriodSeconds"] > drain_s
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "metrics": 8002}, "the server's own"
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert any(given["token_file"].startswith(f"{path}/") for path in mounted)
    assert "/tmp" in mounted, "the root is read-only"
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in ("/v2/health/ready", "/v2/health/live")
        assert container[probe]["httpGet"]["port"] in ports


def test_the_objects_point_at_each_other():
    found = by_kind("kubernetes.yaml")
    deployment = found["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["minAvailable"] < deployment["spec"]["replicas"]
    scaler = found["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    names = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} <= names


def test_the_scaler_asks_for_a_metric_that_the_server_has():
    (metric,) = by_kind("kubernetes.yaml")["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert f'"{name}"' in (ROOT / "src" / "assay" / "serve" / "metrics.py").read_text()


def test_kserve_starts_the_server_on_the_ports_it_names():
    found = by_kind("kserve.yaml")
    (container,) = found["ServingRuntime"]["spec"]["containers"]
    assert container["command"] == ["assay", "serve"]
    given = options(container["args"])
    (port,) = container["ports"]
    assert given["http_port"] == port["containerPort"]
    assert container["readinessProbe"]["httpGet"]["port"] == given["http_port"]
    model = found["InferenceService"]["spec"]["predictor"]["model"]
    assert model["runtime"] == found["ServingRuntime"]["metadata"]["name"]
    formats = {f["name"] for f in found["ServingRuntime"]["spec"]["supportedModelFormats"]}
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in found["ServingRuntime"]["spec"]["protocolVersions"]


def test_the_image_is_built_from_files_that_are_there():
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ARG", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT"}
    instructions = dockerfile()
    assert {name for name, _ in instructions} <= known
    stages = [rest.split()[-1] for name, rest in instructions if name == "FROM" and " AS " in rest]
    for name, rest in instructions:
        if name == "COPY":
            words = rest.split()
            if words[0].startswith("--from="):
                assert words[0].removeprefix("--from=") in stages
                continue
            for source in words[:-1]:
                assert source.startswith("$") or (ROOT / source).exists(), source


def test_the_image_starts_the_server_as_nobody_in_particular():
    found = dict(dockerfile())
    assert found["USER"].isdigit() and int(found["USER"]) > 0
    assert found["STOPSIGNAL"] == "SIGTERM"
    words = yaml.safe_load(found["ENTRYPOINT"])
    assert words[:2] == ["assay", "serve"]
    assert options(words[2:])["models"] == ("/models/bundle",)
    assert found["EXPOSE"].split() == ["8000", "8001", "8002"]
    (extras,) = re.findall(r"'\.\[([a-z,]+)\]'", " ".join(rest for name, rest in dockerfile() if name == "RUN"))
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))


def test_the_page_shows_commands_that_exist():
    """Every ``assay serve`` and ``assay pack`` in docs/deploy.md is parsed by the command line itself."""
    from assay.cli.main import root

    text = re.sub(r"\\\n\s*", "", (ROOT / "docs" / "deploy.md").read_text())
    lines = [line.split("#")[0].strip() for line in text.splitlines() if re.match(r"\s*assay (serve|pack) ", line)]
    assert len(lines) > 3
    for line in lines:
        verb, *words = shlex.split(line)[1:]
        root.get_command(None, verb).make_context(verb, words)
