"""The file `.env` beside a compose file: variables that the environment does not have."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from mirror.image_lists.found import UnreadableList
from mirror.image_lists.variables import Unset, substitute
from mirror.util.permissions import explain_unreadable

_NAME = ".env"
_MOST_BYTES = 64 * 1024  # bytes; honest ones have some hundred


class WithEnvFile(Mapping[str, str]):
    """The environment, and beneath it the `.env` of a folder, which is read at the first look-up.

    The environment wins, as with compose. A look-up raises UnreadableList if the file is there and
    cannot be read. Source: Compose, "Environment variables precedence".
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = environment
        self._file = folder / _NAME

    def __repr__(self) -> str:
        return f"<WithEnvFile {self._file}>"

    def __getitem__(self, name: str) -> str:
        found = self._environment.get(name)
        return self._values[name] if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter({**self._values, **self._environment})

    def __len__(self) -> int:
        return len({**self._values, **self._environment})

    @cached_property
    def _values(self) -> Mapping[str, str]:
        try:
            with self._file.open("rb") as stream:
                data = stream.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unreadable(f"cannot be read: {explain_unreadable(error)}") from None
        if len(data) > _MOST_BYTES:
            raise self._unreadable(f"is larger than {_MOST_BYTES // 1024} KiB")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise self._unreadable("is not text in UTF-8") from None
        return self._resolved(dotenv_values(stream=StringIO(text), interpolate=False))

    def _resolved(self, pairs: Mapping[str, str | None]) -> dict[str, str]:
        """Replace the variables in values: dotenv would do so without a bound on their lengths."""
        values: dict[str, str] = {}
        known = ChainMap(dict(self._environment), values)
        for name, text in pairs.items():
            with suppress(Unset):  # then this one counts as not set, too
                if text is not None:
                    values[name] = substitute(text, known)
        return values

    def _unreadable(self, why: str) -> UnreadableList:
        return UnreadableList(f"takes variables from {self._file}, which {why}")
