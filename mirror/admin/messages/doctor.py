"""`doctor`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT

State = Literal["ok", "warn", "fail"]


@checked(frozen=True, config=STRICT)
class DoctorOrder:
    """Check the configuration, the machine, the upstreams and the running mirror."""

    kind: Literal["doctor"] = "doctor"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, in words; `advice` says how it is mended, "" if it is `ok`."""

    check: str
    state: State
    words: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """The findings, in the order of the checks."""

    findings: tuple[Finding, ...]
    kind: Literal["examined"] = "examined"
