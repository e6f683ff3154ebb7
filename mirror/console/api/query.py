"""Parameters of the API: read into orders, with messages that name the allowed values."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mirror.admin.messages import Work
from mirror.console.problem import Problem
from mirror.oci.errors import shown

_WANTED = {  # instead of pydantic's messages, which are for programmers
    "literal_error": "expected {expected}",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a smaller number",
    "int_from_float": "expected a whole number",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "string_too_long": "expected at most {max_length} characters",
    "tuple_type": "expected a list",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected at most {le}",
    "too_short": "expected at least {min_length}",
    "too_long": "expected at most {max_length}",
    "missing": "expected a value",
}


def single(fields: Mapping[str, list[str]]) -> dict[str, str]:
    """Return the value of each field of a query; raises Problem for a repeated one."""
    for name, values in fields.items():
        if len(values) > 1:
            raise invalid(f"{shown(name)} is given {len(values)} times: once is allowed")
    return {name: values[0] for name, values in fields.items()}


def as_order(
    order: type[Any],
    names: Mapping[str, str],
    values: Mapping[str, Any],
    given: Mapping[str, object],
) -> Work:
    """Return an order of the `given` fields, and of `values` by the `names` of fields.

    Raises Problem.
    """
    for name in values:
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise invalid(f"there is no parameter {shown(name)} here; known are: {known}")
    written = {names[name]: value for name, value in values.items()}
    try:
        made: Work = TypeAdapter(order).validate_python({**given, **written})
    except ValidationError as error:
        raise invalid(_message(error, {field: name for name, field in names.items()})) from None
    return made


def _message(error: ValidationError, names: Mapping[str, str]) -> str:
    fault = error.errors()[0]
    place = ".".join(map(str, fault["loc"]))
    name = names.get(place, place)
    wanted = _WANTED.get(fault["type"], "")
    text = wanted.format(**fault.get("ctx", {})) or str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "missing":
        return f"{name}: {text}"
    return f"{name} is {shown(str(fault['input']))}: {text}"


def invalid(detail: str) -> Problem:
    """Return the problem of a request that has to be written differently."""
    return Problem(HTTPStatus.BAD_REQUEST, detail)
