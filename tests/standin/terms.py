"""Terms: how the stand-in treats its clients, which a test may change at any time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Auth: TypeAlias = Literal["bearer", "basic", "none"]


@dataclass
class Terms:
    """Docker Hub's terms by default."""

    auth: Auth = "bearer"
    realm: str | None = None  # another token server than the hub's, for example a flavour's
    service: str = "registry.docker.io"
    users: dict[str, str] = field(default_factory=dict)  # name: password
    token_life: float = 300
    limit: int | None = None  # pulls of an anonymous client per window; None: unlimited, no headers
    account_limit: int | None = None  # pulls of a user per window
    window: int = 21600  # seconds
    sponsored: set[str] = field(default_factory=set)  # repositories outside of the limit
    limit_heads: bool = False  # without remaining pulls, a HEAD is refused too
    count_heads: bool = False  # a HEAD spends a pull
    redirect: bool = True  # blobs come from the CDN
    redirect_head: bool = True  # also for a HEAD
    signature_life: float = 1200
    one_use: bool = True  # a signed address is valid for one answer
    page_size: int = 100  # tags
    referrers: bool = True
    clock: Callable[[], float] = time.monotonic  # the time of tokens, signatures and windows
