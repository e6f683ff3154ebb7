"""The doctor's checks of the upstreams: reached, logged in, within the limit; and of the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from yarl import URL

from mirror.admin.messages import Finding
from mirror.app import preflight, trial
from mirror.app.doctor.finding import fail, ok, warn
from mirror.app.trial import Trial
from mirror.app.upstream_plans import proxies
from mirror.settings import ConfigurationError, Settings, Upstream
from mirror.util.units import duration

_SLOW = 2.0  # seconds until an answer
_SKEWED = 30.0  # seconds between the clocks
_SHORT = 0.1  # of a limit


def tried(settings: Settings) -> list[Trial]:
    """Try all upstreams, for a command; raises ConfigurationError."""
    return asyncio.run(trial.tried(settings))


def findings(
    settings: Settings, tried: Callable[[Settings], list[Trial]] = tried
) -> Iterator[Finding]:
    """Yield the findings about the upstreams without faults in their configuration."""
    good = {
        name: each
        for name, each in settings.upstreams.items()
        if not any(preflight.upstream_faults(name, each))
    }
    for name, each in good.items():
        yield from _proxy(name, each)
    try:
        trials = tried(settings.model_copy(update={"upstreams": good}))
    except ConfigurationError as error:
        yield fail("upstreams", str(error), "correct this key")
        return
    for each_trial in trials:
        yield from _upstream(each_trial, good[each_trial.upstream])
    yield from _clock(trials)


def _proxy(name: str, upstream: Upstream) -> Iterator[Finding]:
    proxy = proxies(upstream).of(URL(upstream.url))
    if proxy is not None:
        source = "the environment's" if upstream.proxy is None else "the configured"
        bare = str(proxy.with_user(None)).rstrip("/")
        yield ok(f"proxy of {name}", f"{bare}, {source} proxy")


def _upstream(each: Trial, upstream: Upstream) -> Iterator[Finding]:
    name = each.upstream
    words = f"{upstream.url}: {each.words}"
    if each.fault:
        advice = (
            "correct the login"
            if each.seconds is not None
            else "check that this machine can reach it"
        )
        yield fail(name, words, f"{advice}: `mirror check --online` tries it again")
    elif (each.seconds or 0) > _SLOW:
        yield warn(
            name, words, "pulls wait for it: check the network, the proxy and the name server"
        )
    else:
        yield ok(name, words)
    if each.head is not None:
        yield _head(name, each.head)
    if each.limit is not None and each.limit.remaining <= _SHORT * each.limit.limit:
        left = f"{each.limit.remaining} of {each.limit.limit} pulls are left"
        advice = "give the mirror an account; `mirror budget` has the spenders"
        yield warn(f"limit of {name}", left, advice)


def _head(name: str, seconds: float) -> Finding:
    check, words = f"HEAD of {name}", f"a tag is confirmed in {1000 * seconds:.0f} ms"
    if seconds > _SLOW:
        return warn(check, words, "with a longer tag_ttl it is asked less often")
    return ok(check, words)


def _clock(trials: list[Trial]) -> Iterator[Finding]:
    """Compare with the median of the upstreams' clocks: one of them may be wrong itself."""
    skews = sorted(each.skew for each in trials if each.skew is not None)
    if not skews:
        return
    skew = skews[len(skews) // 2]
    if abs(skew) <= _SKEWED:
        yield ok("clock", "it agrees with upstream's clock")
        return
    words = f"it is {duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} upstream's"
    yield warn("clock", words, "set it (NTP): tokens, certificates and windows of limits need it")
