"""Kinds of files: each is recognised, and the images that its users pull are found."""

from __future__ import annotations

import pytest

from mirror.image_lists.found import ImageList
from mirror.image_lists.reader import read_images

DIGEST = "sha256:" + "a" * 64


def read(text: str, **environment: str) -> ImageList:
    """Read a text."""
    return read_images(text.encode(), environment)


def names(text: str, **environment: str) -> list[str]:
    """Return the images of a text; fails if a part of it was skipped."""
    found = read(text, **environment)
    assert not found.skipped
    return [str(each.name).removeprefix("docker.io/library/") for each in found]


def skipped(text: str, **environment: str) -> list[tuple[int, str]]:
    """Return the skipped parts of a text; fails if it has an image."""
    found = read(text, **environment)
    assert not found.images
    return [(each.line, each.reason) for each in found.skipped]


# Plain lists


def test_a_plain_list_has_an_image_a_line() -> None:
    text = f"""\
# the base
nginx

docker.io/rancher/klipper-helm:v0.8.4-build20240523  # k3s
registry.example:5000/team/app@{DIGEST}
alpine:3.20@{DIGEST}
"""
    assert names(text) == [
        "nginx:latest",
        "docker.io/rancher/klipper-helm:v0.8.4-build20240523",
        f"registry.example:5000/team/app@{DIGEST}",
        f"alpine@{DIGEST}",
    ]


def test_a_list_of_windows_with_a_mark_and_carriage_returns_is_read() -> None:
    assert names("\ufeffnginx:1\r\nredis:7\r\n") == ["nginx:1", "redis:7"]


def test_each_image_is_named_once() -> None:
    assert names("nginx\nnginx:latest\ndocker.io/library/nginx\n") == ["nginx:latest"]


def test_a_line_that_is_no_image_is_skipped_with_its_number() -> None:
    found = read("nginx:1\nnot an image\nredis:7\n")
    assert [str(each.name.reference) for each in found] == ["1", "7"]
    assert [(each.line, each.reason) for each in found.skipped] == [
        (2, "'not an image' is no image name")
    ]


def test_control_characters_of_a_list_are_quoted() -> None:
    [(_, reason)] = skipped("\x1b[2Jnginx:1\n")
    assert reason.isprintable()


@pytest.mark.parametrize(
    "host", ["e\x1b[2Jvil.example", "a b.example", "x." + "y" * 300, "é.example"]
)
def test_a_registry_that_is_no_host_is_skipped(host: str) -> None:
    [(_, reason)] = skipped(f"- '{host}/app:1'\n")
    assert "is no image name" in reason or "not YAML" in reason
    assert reason.isprintable()


def test_a_platform_that_is_none_is_skipped_with_its_image() -> None:
    text = "services:\n  a:\n    image: nginx\n    platform: some thing\n  b: {image: redis}\n"
    found = read(text)
    assert [each.name.repository.name for each in found] == ["library/redis"]
    assert [each.line for each in found.skipped] == [3]


# Compose

COMPOSE = """\
# as docker writes it
services:
  web:
    image: nginx:${NGINX:-1.25}
    platform: linux/arm64
  own:
    build: .
    image: registry.example/own:dev
  own-too:
    build: {context: .}
    image: registry.example/base:1
    pull_policy: always
  db:
    <<: &db
      image: postgres:16.10
    environment: {POSTGRES_PASSWORD: image}
  replica:
    <<: *db
    image: "postgres:17"
  job:
    extends: {service: web}
  local:
    image: local:1
    pull_policy: never
volumes:
  data: {}
"""


def test_compose_has_the_images_that_its_pull_would_pull() -> None:
    found = read(COMPOSE)
    assert [(str(each.name), each.platform) for each in found] == [
        ("docker.io/library/nginx:1.25", "linux/arm64"),
        ("registry.example/base:1", None),
        ("docker.io/library/postgres:16.10", None),
        ("docker.io/library/postgres:17", None),
    ]
    assert [(each.line, each.reason.split(":")[0]) for each in found.skipped] == [
        (8, "service 'own' is built, not pulled"),
        (21, "service 'job' takes its image from another service"),
        (23, "service 'local' is built, not pulled"),
    ]


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("nginx:${TAG}", "nginx:1.2"),
        ("nginx:$TAG", "nginx:1.2"),
        ("${NAME:-nginx}:${TAG:-9}", "nginx:1.2"),
        ("nginx:${EMPTY:-9}", "nginx:9"),
        ("nginx:${NONE-9}", "nginx:9"),
        ("nginx:${NONE:-${TAG}}", "nginx:1.2"),
        ("nginx:${TAG:-${NONE}}", "nginx:1.2"),
        ("nginx${TAG:+:alpine}", "nginx:alpine"),
        ("nginx${NONE:+:alpine}:1", "nginx:1"),
        ("nginx:${TAG:?a tag is wanted}", "nginx:1.2"),
    ],
)
def test_variables_are_replaced_as_compose_does(text: str, image: str) -> None:
    document = f'services: {{web: {{image: "{text}"}}}}'
    assert names(document, TAG="1.2", EMPTY="") == [image]


@pytest.mark.parametrize(
    "text", ["nginx:${TAG}", "nginx:$TAG", "nginx:${TAG:?no tag}", "nginx:${", "nginx:${TAG%1}"]
)
def test_an_image_with_a_variable_that_is_not_set_is_skipped(text: str) -> None:
    [(line, reason)] = skipped(f"services:\n  web:\n    image: {text}\n")
    assert line == 3
    assert "is skipped: " in reason


def test_included_compose_files_are_named_as_skipped() -> None:
    [(line, reason)] = skipped("include: [a.yaml]\nservices:\n  web: {build: .}\n")
    assert (line, "docker compose config" in reason) == (1, True)


# Kubernetes

MANIFESTS = f"""\
# Source: app/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      initContainers:
        - name: wait
          image: busybox:1.36
      containers:
        - name: app
          image: ghcr.io/org/app:1.10@{DIGEST}
      volumes:
        - name: model
          image: {{reference: quay.io/org/model:2, pullPolicy: Always}}
---
apiVersion: batch/v1
kind: CronJob
spec: {{jobTemplate: {{spec: {{template: {{spec: {{containers: [{{image: "redis:7"}}]}}}}}}}}}}
---
apiVersion: postgresql.cnpg.io/v1
kind: Cluster
spec:
  imageName: ghcr.io/cloudnative-pg/postgresql:16.1
  image: ""
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
spec:
  baseImage: logo.png
  image: quay.io/prometheus/prometheus
  tag: v2.53.0
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
spec:
  versions:
    - schema: {{openAPIV3Schema: {{properties: {{image: {{description: "x", image: bad:1}}}}}}}}
---
apiVersion: v1
kind: List
items:
  - kind: CustomResourceDefinition
    image: bad:2
  - kind: Pod
    spec: {{containers: [{{image: "memcached:1.6"}}]}}
"""


def test_manifests_of_any_kind_have_the_images_of_all_their_containers() -> None:
    assert names(MANIFESTS) == [
        "busybox:1.36",
        f"ghcr.io/org/app@{DIGEST}",
        "quay.io/org/model:2",
        "redis:7",
        "ghcr.io/cloudnative-pg/postgresql:16.1",
        "quay.io/prometheus/prometheus:v2.53.0",
        "memcached:1.6",
    ]


def test_a_variable_in_a_manifest_is_skipped_whatever_the_environment() -> None:
    text = "kind: Pod\nspec:\n  containers:\n    - image: app:${TAG}\n"
    assert skipped(text, TAG="1") == [(4, "'app:${TAG}' is no image name")]


def test_manifests_in_json_are_read() -> None:
    text = '{"kind": "Pod",\n "spec": {"containers": [{"image": "nginx:1"}]}}'
    assert names(text) == ["nginx:1"]


def test_a_bad_document_spoils_no_other() -> None:
    text = "kind: A\nimage: nginx:1\n---\nimage: {{ .Values.image }}\n---\nimage: redis:7\n"
    found = read(text)
    assert [each.name.repository.name for each in found] == ["library/nginx", "library/redis"]
    [skip] = found.skipped
    assert skip.line == 4
    assert "is no" in skip.reason or "is not YAML" in skip.reason


# Helm

INSTALLED = """\
NAME: web
LAST DEPLOYED: Sun Nov 29 16:53:54 2026
STATUS: pending-install
HOOKS:
---
# Source: web/templates/tests/test.yaml
kind: Pod
spec:
  containers:
    - image: busybox
MANIFEST:
---
# Source: web/templates/pod.yaml
kind: Pod
spec:
  containers:
    - image: "nginx:1.16.0"

NOTES:
1. Get the URL: by `kubectl get svc`
   image: this is text: it is
"""


def test_the_output_of_a_helm_install_is_read_without_its_notes() -> None:
    assert names(INSTALLED) == ["busybox:latest", "nginx:1.16.0"]


VALUES = f"""\
global:
  imageRegistry: ""
image:
  registry: docker.io
  repository: bitnami/nginx
  tag: 1.10
  digest: ""
  pullPolicy: IfNotPresent
metrics:
  enabled: true
  image: {{registry: quay.io, repository: org/exporter, tag: v1, digest: "{DIGEST}"}}
thanosImage: {{repository: quay.io/thanos/thanos, tag: v0.35.1}}
images:
  controller: {{repository: registry.k8s.io/ingress-nginx/controller, tag: v1.11.2}}
"""


def test_values_of_a_chart_spell_images_out() -> None:
    assert names(VALUES) == [
        "docker.io/bitnami/nginx:1.10",
        f"quay.io/org/exporter@{DIGEST}",
        "quay.io/thanos/thanos:v0.35.1",
        "registry.k8s.io/ingress-nginx/controller:v1.11.2",
    ]


def test_an_image_of_values_without_a_tag_is_skipped() -> None:
    [(line, reason)] = skipped('image:\n  repository: org/app\n  tag: ""\n')
    assert (line, "helm template" in reason) == (2, True)


# Dockerfiles

DOCKERFILE = """\
# syntax=docker/dockerfile:1.7
# built by CI
ARG GO=1.26
ARG BASE="debian:${DEBIAN:-12}"
FROM --platform=$BUILDPLATFORM golang:${GO}-alpine AS Build
RUN --mount=type=bind,from=ghcr.io/org/tools:1,target=/tools \\
    make
RUN <<EOF
FROM inside:1
EOF
FROM build AS test
FROM --platform=linux/arm64 ${BASE}
COPY --from=build /app /app
COPY --from=0 /x /x
COPY --chown=1:1 --from=busybox:1.36 /bin/sh /bin/sh
FROM scratch
FROM ${UNKNOWN}
"""


def test_a_dockerfile_has_the_images_that_a_build_pulls() -> None:
    found = read(DOCKERFILE)
    assert [(str(each.name.repository.name), each.platform) for each in found] == [
        ("docker/dockerfile", None),
        ("library/golang", None),
        ("org/tools", None),
        ("library/debian", "linux/arm64"),
        ("library/busybox", None),
    ]
    assert [str(each.name.reference) for each in found] == ["1.7", "1.26-alpine", "1", "12", "1.36"]
    assert [(each.line, each.reason) for each in found.skipped] == [
        (17, "'${UNKNOWN}' is skipped: variable UNKNOWN is not set")
    ]


# skopeo

SYNC = f"""\
registry.example.com:
  tls-verify: false
  images:
    busybox: []
    redis:
      - "1.0"
      - {DIGEST}
quay.io:
  images-by-tag-regex:
    coreos/etcd: ^v3
"""


def test_a_list_for_skopeo_has_the_tags_by_name() -> None:
    found = read(SYNC)
    assert [str(each.name) for each in found] == [
        "registry.example.com/redis:1.0",
        f"registry.example.com/redis@{DIGEST}",
    ]
    assert [each.line for each in found.skipped] == [2, 9]


def test_a_list_in_yaml_is_a_list() -> None:
    assert names("- nginx:1\n- redis:7\n") == ["nginx:1", "redis:7"]
