"""Reload: a running mirror applies changes, cuts no connection, and names keys it leaves alone."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from mirror.app.differences import RESTART, compare
from mirror.app.reload import ReloadRefused
from mirror.app.upstreams import UpstreamTable
from mirror.content import repositories
from mirror.oci.errors import NameUnknown
from mirror.settings import ConfigurationError, Settings, load
from mirror.settings.changes import change_lines
from tests.standin import Fault, Hub, Image, Seen, make_image
from tests.standin.hub import CHECK
from tests.support.reloading import GHCR, NAME, Changing, manifest, reload


def private(hub: Hub, changing: Changing) -> tuple[Image, str]:
    """Log in to an account with a private image; returns the image, and a client's token."""
    hub.terms.users["me"] = "right"
    secret, token = make_image(5, [200_000]), "a-token-of-some-client"
    hub.add(secret, "me/secret", "latest")
    hub.make_private("me/secret", "me")
    changing.keys["clients"] = {"ci": {"token": token}}
    changing.upstreams["docker.io"] |= {"username": "me", "password": "right"}
    return secret, token


def _is_pull(seen: Seen) -> bool:
    return seen.kind == "manifest" and seen.method == "GET"


# Changes that a reload applies


async def test_a_new_upstream_is_served_without_a_restart(
    changing: Changing, other: Hub, image: Image
) -> None:
    new = make_image(2, [100_000])
    other.add(new, "org/app", "latest")
    async with changing.running() as mirror:
        assert (await manifest(mirror, "org/app", GHCR)).status == 404
        changing.upstreams[GHCR] = {"url": other.url}
        assert (await reload(mirror)).changed == (f"upstreams.{GHCR} (new)",)
        assert (await manifest(mirror, "org/app", GHCR)).body == new.manifest
        assert (await mirror.manifest(NAME, "latest")).body == image.manifest


async def test_an_upstream_that_was_removed_is_unknown_at_once(
    changing: Changing, other: Hub
) -> None:
    other.add(make_image(2, [100_000]), "org/app", "latest")
    changing.upstreams[GHCR] = {"url": other.url}
    async with changing.running() as mirror:
        assert (await manifest(mirror, "org/app", GHCR)).status == 200
        del changing.upstreams[GHCR]
        assert (await reload(mirror)).changed == (f"upstreams.{GHCR} (removed)",)
        gone = await manifest(mirror, "org/app", GHCR)
        assert gone.status == 404
        assert json.loads(gone.body)["errors"][0]["code"] == "NAME_UNKNOWN"


async def test_an_upstream_that_moved_is_asked_where_it_is_now(
    changing: Changing, hub: Hub, other: Hub, image: Image
) -> None:
    other.add(image, NAME, "latest")
    async with changing.running() as mirror:
        changing.upstreams["docker.io"] = {"url": other.url}
        assert (await reload(mirror)).changed == ("upstreams.docker.io.url",)
        assert (await mirror.manifest(NAME, "latest")).body == image.manifest
    assert not hub.count()
    assert other.pulls == 1


async def test_a_client_and_its_token_come_and_go(changing: Changing, image: Image) -> None:
    first, second = "first-token-of-a-client", "second-token-of-a-client"
    changing.keys = {"clients": {"ci": {"token": first}}, "anonymous": []}
    async with changing.running() as mirror:
        asked = [(await manifest(mirror, NAME, "docker.io", each)).status for each in (first, "")]
        assert asked == [200, 403]
        changing.keys["clients"] = {"ci": {"token": second}, "new": {"token": first[::-1]}}
        assert (await reload(mirror)).changed == ("clients.ci.token", "clients.new (new)")
        for token, status in ((first, 403), (second, 200), (first[::-1], 200), ("", 403)):
            assert (await manifest(mirror, NAME, "docker.io", token)).status == status


async def test_who_guesses_is_held_off_through_a_reload(changing: Changing, image: Image) -> None:
    changing.keys = {"clients": {"ci": {"token": "a-token-of-some-client"}}}
    async with changing.running() as mirror:
        for _ in range(20):
            assert (await manifest(mirror, NAME, "docker.io", "wrong")).status == 403
        changing.keys["clients"] = {"ci": {"token": "another-token-of-it"}}
        await reload(mirror)
        assert (await manifest(mirror, NAME, "docker.io", "wrong")).status == 429


async def test_a_rate_holds_from_the_reload_on(changing: Changing, image: Image) -> None:
    async with changing.running() as mirror:
        for _ in range(20):
            assert (await mirror.manifest(NAME, "latest")).status == 200
        changing.keys["client_rate"] = 0.1
        assert (await reload(mirror)).changed == ("client_rate",)
        assert (await mirror.manifest(NAME, "latest")).status == 200
        assert (await mirror.manifest(NAME, "latest")).status == 429


async def test_a_share_counts_the_pulls_before_it(
    changing: Changing, hub: Hub, image: Image
) -> None:
    hub.add(make_image(3, [1000]), NAME, "next")
    changing.upstreams["docker.io"]["pull_limit"] = 100
    async with changing.running() as mirror:
        assert (await mirror.manifest(NAME, "latest")).status == 200
        changing.keys["shares"] = {"127.0.0.0/8": 1}
        assert (await reload(mirror)).changed == ("shares.127.0.0.0/8 (new)",)
        refused = await mirror.manifest(NAME, "next")
        assert refused.status == 429
        assert "127.0.0.0/8 has spent its share" in refused.body.decode()
        changing.keys["shares"] = {"127.0.0.0/8": 2}
        await reload(mirror)
        assert (await mirror.manifest(NAME, "next")).status == 200


async def test_a_pull_that_runs_is_given_back_to_the_share_that_it_is_in_by_then(
    changing: Changing, hub: Hub, image: Image
) -> None:
    changing.upstreams["docker.io"]["pull_limit"] = 100
    async with changing.running() as mirror:
        go = asyncio.Event()
        hub.faults.add(Fault(kind="manifest", method="GET", hang=True, until=go))
        pull = asyncio.create_task(mirror.manifest(NAME, "latest"))
        await hub.seen(_is_pull)
        changing.keys["shares"] = {"*": 2}
        await reload(mirror)
        go.set()
        assert (await pull).status == 200
        for number, status in ((3, 200), (4, 429)):  # the second of two, and one more
            hub.add(make_image(number, [1000]), NAME, f"next{number}")
            assert (await mirror.manifest(NAME, f"next{number}")).status == status


async def test_access_rules_change_at_once_for_stored_content(
    changing: Changing, hub: Hub, image: Image
) -> None:
    async with changing.running() as mirror:
        await mirror.pull(NAME, "latest", image)
        tokens, asked = hub.count(kind="token"), hub.count()
        changing.upstreams["docker.io"]["deny"] = ["library/*"]
        assert (await reload(mirror)).changed == ("upstreams.docker.io.deny",)
        assert (await mirror.manifest(NAME, image.digest)).status == 403
        assert (await mirror.blob(NAME, image.layers[0].digest)).status == 403
        del changing.upstreams["docker.io"]["deny"]
        await reload(mirror)
        assert (await mirror.manifest(NAME, image.digest)).status == 200
        assert (hub.count(kind="token"), hub.count()) == (tokens, asked)


async def test_no_list_of_repositories_outlives_the_rules_that_it_was_made_by(
    changing: Changing, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "_INSTANT", 0)
    monkeypatch.setattr(repositories, "_TIMES", 1e9)  # a list stays valid while this test runs
    async with changing.running() as mirror:
        await mirror.pull(NAME, "latest", image)
        assert json.loads((await mirror.ask("/v2/_catalog")).body)["repositories"] == [NAME]
        changing.upstreams["docker.io"]["deny"] = ["library/*"]
        await reload(mirror)
        assert json.loads((await mirror.ask("/v2/_catalog")).body)["repositories"] == []


async def test_a_new_password_is_logged_in_with(changing: Changing, hub: Hub, image: Image) -> None:
    hub.terms.users["me"] = "right"
    account = {"username": "me", "password": "wrong", "private": "everyone"}
    changing.upstreams["docker.io"] |= account
    async with changing.running() as mirror:
        assert (await mirror.manifest(NAME, "latest")).status == 403
        changing.upstreams["docker.io"]["password"] = "right"
        assert (await reload(mirror)).changed == ("upstreams.docker.io.password",)
        assert (await mirror.manifest(NAME, "latest")).status == 200


async def test_a_refusal_of_an_upstreams_former_account_is_forgotten(
    changing: Changing, hub: Hub, image: Image
) -> None:
    hub.terms.users |= {"first": "word", "second": "word"}
    secret, missing = make_image(5, [200_000]), make_image(6, [1000]).layers[0].digest
    hub.add(secret, "me/secret", "latest")
    hub.make_private("me/secret", "second")
    changing.keys["missing_ttl"] = 600
    account = {"username": "first", "password": "word", "private": "everyone"}
    changing.upstreams["docker.io"] |= account
    async with changing.running() as mirror:
        assert (await mirror.manifest("me/secret", "latest")).status == 403
        assert (await mirror.manifest(NAME, "later")).status == 404
        assert (await mirror.blob("me/secret", missing)).status in (403, 404)
        changing.upstreams["docker.io"]["username"] = "second"
        await reload(mirror)
        hub.add(secret, NAME, "later")
        hub.add(make_image(6, [1000]), "me/secret", "other")
        assert (await mirror.manifest("me/secret", "latest")).body == secret.manifest
        assert (await mirror.manifest(NAME, "later")).body == secret.manifest
        assert (await mirror.blob("me/secret", missing)).status == 200


async def test_a_password_file_is_read_again(
    changing: Changing, hub: Hub, image: Image, tmp_path: Path
) -> None:
    hub.terms.users["me"] = "right"
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    account = {"username": "me", "password_file": secret, "private": "everyone"}
    changing.upstreams["docker.io"] |= account
    async with changing.running() as mirror:
        assert (await mirror.manifest(NAME, "latest")).status == 403
        secret.write_text("right")
        assert (await reload(mirror)).changed == ("upstreams.docker.io (its files)",)
        assert (await mirror.manifest(NAME, "latest")).status == 200


async def test_an_upstream_that_is_as_it_was_keeps_its_tokens_and_connections(
    changing: Changing, hub: Hub, other: Hub, image: Image
) -> None:
    async with changing.running() as mirror:
        await mirror.manifest(NAME, "latest")
        changing.upstreams[GHCR] = {"url": other.url}
        changing.keys |= {"client_rate": 1000, "shares": {"*": "90%"}}
        await reload(mirror)
        hub.add(make_image(3, [1000]), NAME, "next")
        await mirror.manifest(NAME, "next")
        assert hub.count(kind="token") == 1


async def test_a_lower_bound_is_kept_at_once(changing: Changing, hub: Hub, image: Image) -> None:
    changing.keys["max_size"] = "100MiB"
    big = make_image(4, [70 * 1024**2])
    hub.add(big, NAME, "big")
    async with changing.running() as mirror:
        await mirror.pull(NAME, "big", big)
        stored = mirror.stored
        assert stored.used > 64 * 1024**2
        changing.keys["max_size"] = "64MiB"
        assert (await reload(mirror)).changed == ("max_size",)
        assert stored.used <= stored.max_size == 64 * 1024**2


async def test_another_part_for_pins_holds_at_once(
    changing: Changing, hub: Hub, image: Image
) -> None:
    changing.keys["max_size"] = "100MiB"
    async with changing.running() as mirror:
        catalog = mirror.daemon.store.catalog
        assert catalog.most_pinned == 50 * 1024**2
        changing.keys["max_pinned"] = "25%"
        assert (await reload(mirror)).changed == ("max_pinned",)
        assert catalog.most_pinned == 25 * 1024**2


async def test_content_of_an_account_stays_private_when_the_account_is_removed(
    changing: Changing, hub: Hub
) -> None:
    """The account's content may be private, so a reload keeps it private as a restart would."""
    secret, token = private(hub, changing)
    async with changing.running() as mirror:
        assert (await manifest(mirror, "me/secret", "docker.io", token)).status == 200
        assert (await manifest(mirror, "me/secret", "docker.io")).status == 403
        changing.upstreams["docker.io"] = {"url": hub.url}
        await reload(mirror)
        assert (await manifest(mirror, "me/secret", "docker.io")).status == 403
        assert (await mirror.blob("me/secret", secret.layers[0].digest)).status == 403


async def test_what_is_on_its_way_to_an_account_that_is_taken_away_is_private(
    changing: Changing, hub: Hub
) -> None:
    _, token = private(hub, changing)
    go = asyncio.Event()
    hub.faults.add(Fault(kind="manifest", method="GET", hang=True, until=go))
    async with changing.running() as mirror:
        pull = asyncio.create_task(manifest(mirror, "me/secret", "docker.io", token))
        await hub.seen(_is_pull)
        changing.upstreams["docker.io"] = {"url": hub.url}
        await reload(mirror)
        go.set()
        await pull
        assert (await manifest(mirror, "me/secret", "docker.io")).status == 403


async def test_new_names_of_upstreams_and_mirror_are_known_from_the_reload_on(
    changing: Changing, other: Hub, image: Image
) -> None:
    new, front = make_image(2, [100_000]), "ghcr.mirror.example"
    other.add(new, "org/app", "latest")
    path = "/v2/org/app/manifests/latest"
    async with changing.running() as mirror:
        changing.upstreams[GHCR] = {"url": other.url, "hosts": [front]}
        changing.keys["host_names"] = ["mirror.example"]
        told = await reload(mirror)
        assert told.changed == ("host_names", f"upstreams.{GHCR} (new)")
        assert (await mirror.ask(path, Host=front)).body == new.manifest
        assert (await mirror.ask(path, Host="stranger.example")).status == 403
        assert (await mirror.ask("/v2/", Host="mirror.example")).status == 200


async def test_another_account_has_its_pull_limit_looked_at(changing: Changing, hub: Hub) -> None:
    def asked(seen: Seen) -> bool:
        return seen.repository == CHECK and seen.method == "HEAD"

    hub.terms.limit, hub.terms.account_limit = 100, 200
    hub.terms.users["me"] = "right"
    changing.keys["limit_check"] = 900
    async with changing.running() as mirror:
        await hub.seen(asked, 2)  # once without a token, and once with a token
        changing.upstreams["docker.io"] |= {"username": "me", "password": "right"}
        await reload(mirror)
        await hub.seen(asked, 4)
        await hub.quiet()
        metrics = (await mirror.ask("/metrics")).body.decode()
        assert re.search(r"^mirror_pull_limit\{.*\} 200\.0$", metrics, re.MULTILINE)


# Changes that a reload does not apply


async def test_a_key_that_needs_a_restart_is_named_and_keeps_its_value(
    changing: Changing, image: Image
) -> None:
    async with changing.running() as mirror:
        changing.keys |= {"memory_cache": "1MiB", "client_rate": 50}
        told = await reload(mirror)
        assert (told.changed, told.restart) == (("client_rate",), ("memory_cache",))
        assert mirror.daemon.reloader.settings.memory_cache == 16 * 1024**2
        told = await reload(mirror)  # the value still differs from the file
        assert (told.changed, told.restart) == ((), ("memory_cache",))
        assert [*change_lines((), ())] == ["nothing has changed"]


async def test_settings_that_cannot_be_used_change_nothing(
    changing: Changing, hub: Hub, image: Image, tmp_path: Path
) -> None:
    """Each bad setting comes with a good change, which must not be applied either."""
    bad: list[tuple[dict[str, object], dict[str, object], str]] = [
        ({"max_fetches": 0}, {}, "max_fetches is 0: expected at least 1"),
        ({}, {"ca_file": tmp_path / "gone"}, "upstreams.docker.io.ca_file is"),
        (
            {},
            {"username": "me", "password_file": tmp_path / "gone"},
            "upstreams.docker.io.password_file is",
        ),
        ({"htpasswd": tmp_path / "gone"}, {}, "htpasswd is"),
        ({"default_upstream": "quay.io"}, {}, "default_upstream is 'quay.io'"),
    ]
    async with changing.running() as mirror:
        for keys, of_hub, words in bad:
            changing.keys = {"client_rate": 0.1, **keys}
            changing.upstreams = {"docker.io": {"url": hub.url, **of_hub}, GHCR: {"url": hub.url}}
            with pytest.raises(ConfigurationError) as refused:
                await mirror.daemon.reloader.reload()
            assert str(refused.value).startswith(words)
            for _ in range(3):
                assert (await mirror.manifest(NAME, "latest")).status == 200
            assert (await manifest(mirror, NAME, GHCR)).status == 404


async def test_an_unforeseen_failure_of_a_reload_is_reported_and_the_next_works(
    changing: Changing,
) -> None:
    async with changing.running() as mirror:
        changing.keys, changing.fails = {"client_rate": 0.1}, MemoryError()
        with pytest.raises(ConfigurationError, match="log says how"):
            await mirror.daemon.reloader.reload()
        changing.fails = None
        assert (await reload(mirror)).changed == ("client_rate",)


async def test_a_reload_while_the_mirror_stops_is_refused_in_words(
    changing: Changing, hub: Hub, image: Image
) -> None:
    go = asyncio.Event()
    layer = image.layers[-1]
    hub.faults.add(Fault(kind="blob", reference=layer.digest, stall_after=100_000, until=go))
    async with changing.running() as mirror:
        reloader = mirror.daemon.reloader
        async with mirror.request(f"/v2/{NAME}/blobs/{layer.digest}") as response:
            await reloader.close()  # the first step of a stop
            with pytest.raises(ReloadRefused, match="is stopping: nothing was reloaded"):
                await reloader.reload()
            go.set()
            assert await response.read() == layer.read()


async def test_two_reloads_at_once_come_one_after_the_other(
    changing: Changing, other: Hub, image: Image
) -> None:
    async with changing.running() as mirror:
        changing.upstreams[GHCR] = {"url": other.url}
        told = await asyncio.gather(*(reload(mirror) for _ in range(5)))
        assert [each.changed for each in told] == [(f"upstreams.{GHCR} (new)",), (), (), (), ()]


async def test_a_reload_goes_to_its_end_though_its_client_has_gone(
    changing: Changing, other: Hub
) -> None:
    new = make_image(2, [100_000])
    other.add(new, "org/app", "latest")
    async with changing.running() as mirror:
        changing.upstreams[GHCR] = {"url": other.url}
        asking = asyncio.create_task(mirror.daemon.reloader.reload())
        await asyncio.sleep(0)
        asking.cancel()
        assert (await reload(mirror)).changed == ()  # it came after
        assert (await manifest(mirror, "org/app", GHCR)).body == new.manifest


# Differences between old and new settings


def test_every_key_is_said_to_reload_or_to_want_a_restart() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    section = page.partition("## Reload")[2].partition("\n## ")[0]
    first, _, rest = section.partition("want a restart")
    assert rest, "both lists are there"
    listed = [
        set(re.findall(r"`([a-z_]+)`", part)) & set(Settings.model_fields) for part in (first, rest)
    ]
    assert listed == [set(Settings.model_fields) - RESTART, set(RESTART)]


def test_a_request_from_before_its_upstream_was_removed_is_told_so() -> None:
    """The comparison of a password may take a while in between."""
    with pytest.raises(NameUnknown, match=f"upstream {GHCR} is no longer configured"):
        UpstreamTable[int]()[GHCR]


def test_no_value_is_named_that_may_be_a_secret() -> None:
    old = load({"clients": {"ci": {"token": "first-token-of-a-client"}}})
    new = load({"clients": {"ci": {"token": "second-token-of-a-client"}}})
    assert compare(old, new).changed == ("clients.ci.token",)


def test_tls_is_not_begun_by_a_reload_nor_what_hangs_on_it(tmp_path: Path) -> None:
    files = {key: tmp_path / key for key in ("tls_cert", "tls_key", "client_ca")}
    old, new = load({}), load({**files, "challenge": True, "client_rate": 5})
    difference = compare(old, new)
    assert difference.changed == ("client_rate",)
    assert difference.restart == ("tls_cert", "tls_key", "client_ca", "challenge")
    assert not difference.settings.challenge
