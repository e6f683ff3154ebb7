"""The preflight: checks for the faults that would prevent a start, and warnings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from mirror.admin.socket_path import is_served
from mirror.app.build_clients import build_users
from mirror.app.listeners import addresses, build_certificate, try_address
from mirror.app.max_size import beyond_file_system, in_bytes
from mirror.app.upstream_plans import connection_of, origin_of
from mirror.settings import ConfigurationError, Loaded, Settings, Upstream
from mirror.storage.folder import unusable
from mirror.util import permissions

_log = logging.getLogger(__name__)

_FILES = ("tls_cert", "tls_key", "client_ca", "htpasswd")
_FILES_OF_UPSTREAM = ("password_file", "ca_file", "client_cert", "client_key")


def faults(settings: Settings) -> Iterator[str]:
    """Yield the faults that a start would report, in its words: each line begins with its key.

    No file is made or altered, and no upstream is asked.
    """
    closed = [*_closed(settings, _FILES)]
    yield from closed
    yield from _more_than(closed, _refused(partial(build_certificate, settings)))
    for name, upstream in settings.upstreams.items():
        yield from upstream_faults(name, upstream)
    yield from _more_than(closed, _refused(partial(build_users, settings)))
    yield from _folder_faults(settings)
    runs = is_served(settings.data_dir.absolute())  # and has a right to its address
    for key, address in addresses(settings):
        wanted = address._replace(port=0) if runs else address
        yield from _refused(partial(try_address, key, wanted))


def upstream_faults(name: str, upstream: Upstream) -> Iterator[str]:
    """Yield the faults that a start would report for one upstream."""
    closed = [f"upstreams.{name}.{line}" for line in _closed(upstream, _FILES_OF_UPSTREAM)]
    yield from closed
    yield from _more_than(closed, _refused(partial(origin_of, name, upstream)))
    yield from _more_than(closed, _refused(partial(connection_of, name, upstream)))


def warnings(settings: Settings) -> Iterator[str]:
    """Yield settings that work, but are probably a mistake."""
    folder = settings.data_dir.absolute()
    if (reported := beyond_file_system(settings.max_size, folder)) is not None:
        yield reported


def warn(loaded: Loaded, settings: Settings) -> None:
    """Log the warnings about settings, and about their sources."""
    for warning in (*loaded.overruled(), *warnings(settings)):
        _log.warning("%s", warning)


def _closed(model: BaseModel, keys: Iterable[str]) -> Iterator[str]:
    """Yield the files that cannot be read: a start reports only the first of several."""
    for key in keys:
        file: Path | None = getattr(model, key)
        if file is not None and (error := permissions.read_error(file)) is not None:
            yield f"{key} is '{file}': cannot be read: {permissions.explain_unreadable(error)}"


def _more_than(reported: Collection[str], faults: Iterable[str]) -> Iterator[str]:
    """Leave out faults of keys that already have one."""
    keys = {line.partition(" ")[0] for line in reported}
    return (line for line in faults if line.partition(" ")[0] not in keys)


def _folder_faults(settings: Settings) -> Iterator[str]:
    folder = settings.data_dir.absolute()
    yield from _refused(partial(in_bytes, settings.max_size, folder))
    for line in unusable(folder):
        yield line if line.startswith("data_dir ") else f"data_dir is '{folder}': {line}"


def _refused(start: Callable[[], object]) -> Iterator[str]:
    try:
        start()
    except ConfigurationError as error:
        yield str(error)
