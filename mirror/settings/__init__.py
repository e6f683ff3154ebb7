"""What can be configured: keys, defaults, and where their values come from."""

from mirror.settings.client import Client
from mirror.settings.keys import HUB_URL, PREFIX, Settings
from mirror.settings.load import data_dir, load, overruled
from mirror.settings.upstream import Upstream
from mirror.settings.values import Address, ConfigurationError, parse_origin, parse_size

__all__ = [
    "HUB_URL",
    "PREFIX",
    "Address",
    "Client",
    "ConfigurationError",
    "Settings",
    "Upstream",
    "data_dir",
    "load",
    "overruled",
    "parse_origin",
    "parse_size",
]
