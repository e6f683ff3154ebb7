"""Print a page on an API from its OpenAPI description: `registry`, or `operators`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

import yaml

from mirror.console.api.openapi import described

Json = dict[str, Any]
REGISTRY = """\
# The registry's API

The requests of engines, with their answers. The page is made from [openapi.yaml](openapi.yaml) by
`make pages`; the tests compare the mirror with that file.
"""
OPERATORS = """\
# Requests and records of the API

Every request of [the API](api.md), with its parameters, and every record of the answers. `make
pages` makes this page from the description that a running mirror serves at `/api/v1/openapi.json`.
Each path begins with `/api/v1`.
"""
_METHODS = ("get", "post", "put", "delete")  # a HEAD is a GET without the body
_WIDTH = 100


def page(head: str, document: Json) -> str:
    """Return the text of the page."""
    parts = [head, _prose(document["info"]["description"]), "## Requests", *_index(document)]
    common = _common(document)
    parts += (
        ["Each of them may also be answered with", _statuses(document, common)] if common else []
    )
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                parts += _operation(document, path, method, item, common)
    schemas = document["components"].get("schemas", {})
    parts += ["## Answers"] if schemas else []
    for name, schema in sorted(schemas.items()):
        parts += _schema(name, schema)
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _index(document: Json) -> Iterator[str]:
    rows = [
        f"| [`{method.upper()} {path}`](#{_anchor(method, path)}) "
        f"| {_cell(item[method]['summary'])} |"
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]
    yield _table("| Request | What it is for |", rows)


def _common(document: Json) -> Json:
    """Return the answers that all requests share, by status."""
    found: list[Json] = [
        item[method]["responses"]
        for item in document["paths"].values()
        for method in _METHODS
        if method in item
    ]
    return {
        status: answer
        for status, answer in found[0].items()
        if all(each.get(status) == answer for each in found)
    }


def _statuses(document: Json, responses: Json) -> str:
    rows = [
        f"| {status} | {_answer(_resolved(document, each))} |" for status, each in responses.items()
    ]
    return _table("| Status | Meaning |", rows)


def _anchor(method: str, path: str) -> str:
    text = f"{method}-{path.lower()}"
    return "".join(letter for letter in text if letter.isalnum() or letter in "-_")


def _operation(document: Json, path: str, method: str, item: Json, common: Json) -> Iterator[str]:
    operation = item[method]
    yield f"### {method.upper()} {path}"
    yield _prose(operation["summary"].rstrip(".") + ".")
    yield _prose(operation.get("description", ""))
    given = [*item.get("parameters", []), *operation.get("parameters", [])]
    rows = [_parameter(_resolved(document, each)) for each in given]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    rows += [
        f"| `{name}` | body | {_type(schema)} | {_cell(schema.get('description', ''))} |"
        for name, schema in body.get("schema", {}).get("properties", {}).items()
    ]
    yield _slim("| Parameter | In | Type | Meaning |", rows)
    own = {key: each for key, each in operation["responses"].items() if key not in common}
    yield _statuses(document, own)


def _parameter(parameter: Json) -> str:
    about = _cell(parameter.get("description", ""))
    return f"| `{parameter['name']}` | {parameter['in']} | {_type(parameter['schema'])} | {about} |"


def _answer(response: Json) -> str:
    schemas = [each.get("schema", {}) for each in response.get("content", {}).values()]
    names = sorted({each["$ref"].rpartition("/")[2] for each in schemas if "$ref" in each})
    links = "".join(f" See [{name}](#{name.lower()})." for name in names)
    return _cell(response["description"]) + links


def _schema(name: str, schema: Json) -> Iterator[str]:
    yield f"### {name}"
    has_fields = "properties" in schema
    yield _prose(schema.get("description", "" if has_fields else f"A {_type(schema)}."))
    rows = [
        f"| `{field}` | {_type(each)} | {_cell(each.get('description', ''))} |"
        for field, each in schema.get("properties", {}).items()
        if field != "kind"
    ]
    yield _slim("| Field | Type | Meaning |", rows)


def _slim(head: str, rows: list[str]) -> str:
    """Return a table, without its last column if that is empty."""
    if any(not row.endswith("|  |") for row in rows):
        return _table(head, rows)
    return _table(head.removesuffix(" Meaning |"), [row.removesuffix("  |") for row in rows])


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " or ".join(_type(each) for each in options)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    kind = " or ".join(kind) if isinstance(kind, list) else str(kind)
    of = schema.get("items") or next(iter(schema.get("prefixItems", [])), None)
    return f"{kind} of {_type(of)}" if kind == "array" and of else kind


def _resolved(document: Json, part: Json) -> Json:
    found = part
    for name in part.get("$ref", "").split("/")[1:]:
        found = document[name] if found is part else found[name]
    return found


def _table(head: str, rows: list[str]) -> str:
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows]) if rows else ""


def _prose(text: str) -> str:
    return "\n\n".join(fill(" ".join(each.split()), _WIDTH) for each in text.split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _registry() -> str:
    source = Path(__file__).with_name("openapi.yaml").read_text()
    return page(REGISTRY, yaml.safe_load(source))


def _operators() -> str:
    return page(OPERATORS, described())


if __name__ == "__main__":
    print({"registry": _registry, "operators": _operators}[sys.argv[1]](), end="")
