"""JSON Schemas of what examples/deploy uses, from the documentation of the Kubernetes API (1.31) and KServe (0.15).

Only the fields used are there, and no others are allowed: a field's misspelling is an error, and a new field in the
manifests asks for a line here with a look into the documentation.
"""

from __future__ import annotations

from typing import Any

NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
PORT_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 15}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
SECONDS = {"type": "integer", "minimum": 1}


def thing(required: str = "", **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def many(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


def one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


METADATA = thing("name", name=NAME, labels=TEXTS, annotations=TEXTS)
SELECTOR = thing("matchLabels", matchLabels=TEXTS)
RESOURCES = thing(
    "requests limits",
    requests=thing("cpu memory", cpu=QUANTITY, memory=QUANTITY),
    limits=thing("cpu memory", cpu=QUANTITY, memory=QUANTITY),
)
PROBE = thing(
    "httpGet",
    httpGet=thing("path port", path={"type": "string", "pattern": "^/"}, port={"anyOf": [PORT, PORT_NAME]}),
    periodSeconds=SECONDS,
    failureThreshold=SECONDS,
    timeoutSeconds=SECONDS,
)
CONTAINER = thing(
    "name image",
    name=NAME,
    image={"type": "string", "pattern": "^[a-z0-9./_-]+:[A-Za-z0-9._-]+$"},
    command=many({"type": "string"}),
    args=many({"type": "string"}),
    ports=many(thing("containerPort", name=PORT_NAME, containerPort=PORT, protocol=one_of("TCP", "UDP"))),
    resources=RESOURCES,
    startupProbe=PROBE,
    readinessProbe=PROBE,
    livenessProbe=PROBE,
    securityContext=thing(
        allowPrivilegeEscalation={"type": "boolean"},
        readOnlyRootFilesystem={"type": "boolean"},
        capabilities=thing(drop=many({"type": "string"})),
    ),
    volumeMounts=many(
        thing("name mountPath", name=NAME, mountPath={"type": "string", "pattern": "^/"}, readOnly={"type": "boolean"})
    ),
)
POD = thing(
    "containers",
    terminationGracePeriodSeconds=COUNT,
    securityContext=thing(
        runAsNonRoot={"type": "boolean"},
        runAsUser=COUNT,
        seccompProfile=thing("type", type=one_of("RuntimeDefault", "Unconfined", "Localhost")),
    ),
    containers=many(CONTAINER),
    volumes=many(thing("name", name=NAME, secret=thing("secretName", secretName=NAME), emptyDir=thing())),
)
SCHEMAS: dict[tuple[str, str], dict[str, Any]] = {
    ("apps/v1", "Deployment"): thing(
        "selector template",
        replicas=COUNT,
        selector=SELECTOR,
        strategy=thing(
            "type",
            type=one_of("RollingUpdate", "Recreate"),
            rollingUpdate=thing(maxUnavailable=COUNT, maxSurge=COUNT),
        ),
        template=thing("metadata spec", metadata=thing(labels=TEXTS, annotations=TEXTS), spec=POD),
    ),
    ("v1", "Service"): thing(
        "selector ports",
        selector=TEXTS,
        ports=many(thing("port", name=PORT_NAME, port=PORT, targetPort={"anyOf": [PORT, PORT_NAME]})),
    ),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): thing(
        "scaleTargetRef maxReplicas",
        scaleTargetRef=thing("kind name", apiVersion={"type": "string"}, kind={"type": "string"}, name=NAME),
        minReplicas=COUNT,
        maxReplicas=SECONDS,
        metrics=many(
            thing(
                "type",
                type=one_of("Pods", "Resource", "Object", "External"),
                pods=thing(
                    "metric target",
                    metric=thing("name", name={"type": "string"}),
                    target=thing("type", type=one_of("AverageValue"), averageValue=QUANTITY),
                ),
            )
        ),
        behavior=thing(scaleDown=thing(stabilizationWindowSeconds=COUNT)),
    ),
    ("policy/v1", "PodDisruptionBudget"): thing("selector", minAvailable=COUNT, selector=SELECTOR),
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): thing(
        "containers",
        protocolVersions=many(one_of("v1", "v2", "grpc-v1", "grpc-v2")),
        supportedModelFormats=many(
            thing("name", name={"type": "string"}, version={"type": "string"}, autoSelect={"type": "boolean"})
        ),
        containers=many(CONTAINER),
    ),
    ("serving.kserve.io/v1beta1", "InferenceService"): thing(
        "predictor",
        predictor=thing(
            "model",
            minReplicas=COUNT,
            maxReplicas=COUNT,
            scaleMetric=one_of("concurrency", "rps", "cpu", "memory"),
            scaleTarget=SECONDS,
            model=thing(
                "modelFormat storageUri",
                runtime=NAME,
                protocolVersion=one_of("v1", "v2", "grpc-v1", "grpc-v2"),
                modelFormat=thing("name", name={"type": "string"}, version={"type": "string"}),
                storageUri={"type": "string", "pattern": "^(s3|gs|pvc|https?|hf)://"},
            ),
        ),
    ),
}


def schema_of(document: dict[str, Any]) -> dict[str, Any]:
    """The schema of a whole manifest.  KeyError for a kind that is not described here."""
    version, kind = document["apiVersion"], document["kind"]
    return thing(
        "apiVersion kind metadata spec",
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=METADATA,
        spec=SCHEMAS[version, kind],
    )
