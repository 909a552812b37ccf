"""Prints what is wrong with objects of KEDA's and Prometheus' operators, by the models of their own CRDs.

They come as YAML on standard input. Runs in the environment that ``tests/kubernetes/conftest.py`` makes. The models let
unknown fields pass, as the API server does, and forget them: so what they give back must be what they were given.
"""

import sys

import yaml
from cloudcoil.models.keda import v1alpha1 as keda  # type: ignore[import-not-found]
from cloudcoil.models.prometheus_operator import v1 as prometheus  # type: ignore[import-not-found]

KINDS = {
    "ScaledObject": keda.ScaledObject,
    "TriggerAuthentication": keda.TriggerAuthentication,
    "ServiceMonitor": prometheus.ServiceMonitor,
    "PodMonitor": prometheus.PodMonitor,
    "PrometheusRule": prometheus.PrometheusRule,
}

for given in yaml.safe_load_all(sys.stdin):
    name = f"{given['kind']}/{given['metadata']['name']}"
    try:
        understood = KINDS[given["kind"]].model_validate(given)
    except ValueError as error:
        print(f"{name}: {error}")
        continue
    known = understood.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if known != given:
        print(f"{name}: unknown or of another type: given {given}, understood {known}")
