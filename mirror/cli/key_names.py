"""The keys by name, in the groups of the help: for commands that do not load the settings."""

from __future__ import annotations

GROUPS: dict[str, tuple[str, ...]] = {
    "addresses and clients": (
        *("listen", "listen_metrics", "admin_listen", "host_names", "admin_hosts"),
        *("tls_cert", "tls_key", "client_ca"),
        *("trusted_proxies", "proxy_protocol"),
        *("max_connections", "client_connections", "idle_timeout", "client_timeout"),
        "shutdown_grace",
    ),
    "content": (
        *("data_dir", "max_size", "max_pinned", "memory_cache", "tag_ttl"),
        *("tag_refresh_ahead", "missing_ttl", "stale_after", "max_fetches", "abandon_after"),
    ),
    "upstreams": (
        "default_upstream",
        *("connect_timeout", "answer_timeout", "silence_timeout", "resume_timeout"),
    ),
    "pull limits": ("max_stale", "limit_check", "ledger_keep"),
    "logins and shares": ("htpasswd", "operators", "challenge", "anonymous", "client_rate"),
    "log": ("log_format", "log_level"),
}
TABLES = (
    "upstreams",
    "clients",
    "shares",
    "schedules",
)  # keys without a flag: their values are tables


def flag(name: str) -> str:
    """Return the flag of a key."""
    return "--" + name.replace("_", "-")
