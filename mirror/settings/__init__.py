"""The configuration: its keys, their defaults, and the sources of their values."""

from mirror.settings.client import Client
from mirror.settings.environment_proxies import proxies_from
from mirror.settings.keys import HUB_URL, PREFIX, Settings
from mirror.settings.load import Loaded, load, load_all, load_usable
from mirror.settings.measures import parse_size
from mirror.settings.schedule import Schedule
from mirror.settings.upstream import Upstream
from mirror.settings.values import Address, ConfigurationError, parse_origin

__all__ = [
    "HUB_URL",
    "PREFIX",
    "Address",
    "Client",
    "ConfigurationError",
    "Loaded",
    "Schedule",
    "Settings",
    "Upstream",
    "load",
    "load_all",
    "load_usable",
    "parse_origin",
    "parse_size",
    "proxies_from",
]
