"""Differences between settings: which of them a running mirror can apply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from mirror.settings import Settings

# Keys that need a restart: too many parts hold their values, or count by them.
RESTART = frozenset(
    {
        *("listen", "listen_metrics", "admin_listen", "trusted_proxies", "proxy_protocol"),
        *("idle_timeout", "client_timeout"),
        *("data_dir", "memory_cache", "tag_ttl", "missing_ttl", "stale_after"),
        "log_format",
    }
)
TLS = ("tls_cert", "tls_key", "client_ca")
_LOGINS = ("htpasswd", "operators", "challenge", "anonymous", "clients", "shares")
_TABLES = ("upstreams", "clients", "shares")


@dataclass(frozen=True, slots=True)
class Difference:
    """The `settings` that can be applied at once, the keys `changed` by them, and the rest.

    The rest are the keys that keep their values until a `restart`.
    """

    settings: Settings
    changed: tuple[str, ...]
    restart: tuple[str, ...]


def compare(old: Settings, new: Settings) -> Difference:
    """Compare settings: find the differences that a mirror can apply while it runs with `old`."""
    unchanged = [key for key in _unchanged(old, new) if getattr(old, key) != getattr(new, key)]
    settings = new.model_copy(update={key: getattr(old, key) for key in unchanged})
    restart = tuple(name for key in unchanged for name in _named(key, old, new))
    keys = (key for key in Settings.model_fields if key not in unchanged)
    changed = tuple(name for key in keys for name in _named(key, old, new))
    return Difference(settings, changed, restart)


def _unchanged(old: Settings, new: Settings) -> Iterator[str]:
    """Yield the keys that keep their values.

    A listener has TLS, or has not, for its whole life. Logins may depend on that: settings that
    only go together are applied together.
    """
    yield from (key for key in Settings.model_fields if key in RESTART)
    if (old.tls_cert is None) != (new.tls_cert is None):
        yield from TLS
        if (old.client_ca is None) != (new.client_ca is None):
            yield from _LOGINS


def _named(key: str, old: Settings, new: Settings) -> Iterator[str]:
    """Yield the names of differences: of a table its rows, of a row its keys; never a value."""
    before, after = getattr(old, key), getattr(new, key)
    if key in _TABLES:
        yield from _rows(key, before, after)
    elif before != after:
        yield key


def _rows(table: str, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        row, then = before.get(name), after.get(name)
        if row is None or then is None:
            yield f"{table}.{name} ({'new' if row is None else 'removed'})"
        elif isinstance(row, BaseModel):
            fields = type(row).model_fields
            yield from (
                f"{table}.{name}.{key}"
                for key in fields
                if getattr(row, key) != getattr(then, key, None)
            )
        elif row != then:
            yield f"{table}.{name}"
