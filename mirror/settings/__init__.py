"""What can be configured: keys, defaults, and where their values come from."""

from mirror.settings.keys import PREFIX, Settings
from mirror.settings.load import load
from mirror.settings.upstream import Upstream
from mirror.settings.values import Address, ConfigurationError, parse_size

__all__ = [
    "PREFIX",
    "Address",
    "ConfigurationError",
    "Settings",
    "Upstream",
    "load",
    "parse_size",
]
