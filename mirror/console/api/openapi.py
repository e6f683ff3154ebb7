"""The description of the API (OpenAPI 3.1), made of the endpoints and of their records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

import mirror
from mirror.console.api.endpoints import ENDPOINTS, Endpoint
from mirror.console.archive_stream import ArchiveStream
from mirror.console.problem import TYPE

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_IMAGE = {
    "name": "image",
    "in": "path",
    "required": True,
    "description": "UPSTREAM/REPOSITORY, with :TAG or @DIGEST for an image of it, such as "
    "docker.io/library/nginx:1.25. Its slashes are sent as they are, or as %2F.",
    "schema": {"type": "string", "minLength": 1},
}
_PROBLEM: Json = {
    "title": "Problem",
    "description": "An error (RFC 9457).",
    "type": "object",
    "properties": {
        "title": {"type": "string", "description": "The phrase of the status."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The fault, and the allowed values."},
    },
    "required": ["title", "status", "detail"],
}
_PROBLEMS = {
    "400": "The request is invalid; the detail names the parameter and the allowed values.",
    "401": "This needs the login of an operator, or the login is wrong.",
    "403": "The viewer is no operator, or the request comes from a page of another site.",
    "404": "The image is not stored.",
    "409": "The state or the limits of the mirror forbid it.",
    "421": "The Host header has a name that is not the mirror's.",
    "429": "The client sends too many requests, or wrong logins.",
    "500": "The mirror failed.",
    "503": "A part is missing or overloaded now.",
}
_INTRODUCTION = (
    "The orders of the page and of the commands, with the records that `--json` prints. Numbers "
    "are for all viewers; names of images and clients, and actions, are for operators."
)


@lru_cache(maxsize=1)
def description() -> bytes:
    """Return the description, as JSON."""
    return json.dumps(described(), indent=1).encode() + b"\n"


def described() -> Json:
    """Return the description."""
    schemas: Json = {"Problem": _PROBLEM}
    paths: Json = {}
    for endpoint in ENDPOINTS:
        item = paths.setdefault(endpoint.path, {})
        item[endpoint.method.lower()] = _operation(endpoint, schemas)
    paths["/openapi.json"] = {"get": _own_operation()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mirror",
            "version": mirror.__version__,
            "summary": "The API of a mirror of container registries",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{}, {"basic": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(endpoint: Endpoint, schemas: Json) -> Json:
    parameters = [*([_IMAGE] if "{image}" in endpoint.path else [])]
    found: Json = {
        "operationId": _identifier(endpoint),
        "summary": endpoint.summary,
        "description": _documented(endpoint),
        "responses": _responses(endpoint, schemas),
    }
    if endpoint.body:
        content = {"application/json": {"schema": _body(endpoint, schemas)}}
        found["requestBody"] = {"required": True, "content": content}
    else:
        parameters += _parameters(endpoint, schemas)
    if endpoint.takes_archive:
        found["requestBody"] = {"required": True, "content": {ArchiveStream.media_type: {}}}
    if parameters:
        found["parameters"] = parameters
    if not endpoint.public:
        found["security"] = [{"basic": []}, {"bearer": []}]
    return found


def _documented(endpoint: Endpoint) -> str:
    """Return the order's documentation, in one line each paragraph."""
    paragraphs = (endpoint.order.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(each.split()) for each in paragraphs)
    return text + ("\n\nWithout an operator's login, names are left out." * endpoint.public)


def _identifier(endpoint: Endpoint) -> str:
    words = endpoint.path.replace("{image}", "image").strip("/").split("/")
    return "_".join([endpoint.method.lower(), *words])


def _parameters(endpoint: Endpoint, schemas: Json) -> Iterator[Json]:
    for name, schema in _members(endpoint, schemas).items():
        default = endpoint.defaults.get(name)
        more = {} if default is None else {"default": json.loads(default)}
        required = name in endpoint.repeated and "default" not in schema
        yield {"name": name, "in": "query", "required": required, "schema": {**schema, **more}}


def _body(endpoint: Endpoint, schemas: Json) -> Json:
    return {
        "type": "object",
        "properties": _members(endpoint, schemas),
        "additionalProperties": False,
    }


def _members(endpoint: Endpoint, schemas: Json) -> Json:
    """Return the schema of each parameter, by its name."""
    schema = TypeAdapter(endpoint.order).json_schema(ref_template=_REF)
    schemas.update(schema.pop("$defs", {}))
    return {
        name: _without_null(schema["properties"][field])
        for name, field in endpoint.parameters.items()
    }


def _without_null(schema: Json) -> Json:
    """Return the schema of a value that is left out instead of null."""
    kept = {key: value for key, value in schema.items() if key not in ("title", "default")}
    if schema.get("default") is not None:
        kept["default"] = schema["default"]
    options = [each for each in kept.pop("anyOf", []) if each != {"type": "null"}]
    if len(options) == 1:
        return {**kept, **options[0]}
    return {**kept, "anyOf": options} if options else kept


def _responses(endpoint: Endpoint, schemas: Json) -> Json:
    schema = TypeAdapter(endpoint.result).json_schema(ref_template=_REF, mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    name = schema["title"]
    schemas[name] = schema
    media = "application/jsonl" if endpoint.stream else "application/json"
    reference = {"$ref": _REF.format(model=name)}
    what = "Records, one a line, the last of which is this or a refusal." * endpoint.stream
    found: Json = {
        "200": {"description": what or "The result.", "content": {media: {"schema": reference}}}
    }
    if endpoint.stream:  # of a line, which no schema can describe
        found["200"]["content"][media] = {}
    if endpoint.archive:
        found["200"] = {"description": "The archive.", "content": {ArchiveStream.media_type: {}}}
    elif not endpoint.acts:
        found["304"] = {"description": "The client has it: see If-None-Match."}
    if endpoint.paged:
        link = {"description": "The next page (rel=next), if there are more rows."}
        found["200"]["headers"] = {"Link": {**link, "schema": {"type": "string"}}}
    found.update(_problems())
    if endpoint.repeated:  # a head that is too long is answered before its path is known
        found["400"]["content"]["application/json"] = {}
    return found


def _problems() -> Json:
    schema = {"schema": {"$ref": _REF.format(model="Problem")}}
    return {
        status: {"description": text, "content": {TYPE: schema}}
        for status, text in _PROBLEMS.items()
    }


def _own_operation() -> Json:
    return {
        "operationId": "get_openapi",
        "summary": "This description",
        "responses": {
            "200": {
                "description": "OpenAPI 3.1.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "304": {"description": "The client has it: see If-None-Match."},
            **_problems(),
        },
    }
