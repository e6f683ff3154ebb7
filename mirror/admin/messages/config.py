"""`config`: the order and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from mirror.admin.messages.common import STRICT

# A value as a file would have it; None if the key has none.
Value: TypeAlias = str | int | float | bool | tuple[str, ...] | None


@checked(frozen=True, config=STRICT)
class ConfigOrder:
    """Show the configuration in force. Passwords and tokens are hidden."""

    kind: Literal["config"] = "config"

    def __str__(self) -> str:
        """Return the order as the operator types it."""
        return self.kind


@dataclass(frozen=True, slots=True)
class ConfiguredKey:
    """A key with its value, and `from`, the place of the value: a line of the file, for example."""

    key: str
    value: Value
    from_: Annotated[str, Field(alias="from")]


@dataclass(frozen=True, slots=True)
class Configuration:
    """The keys, each with its value in force."""

    keys: tuple[ConfiguredKey, ...]
    kind: Literal["configuration"] = "configuration"
