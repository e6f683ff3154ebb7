"""Strangers and other sites get numbers of the page and the API, and nothing else."""

from __future__ import annotations

import asyncio
import statistics
import time

import pytest
from aiohttp import encode_basic_auth

from mirror.console.api.endpoints import ENDPOINTS
from tests.attacks.steps import MOST, steps
from tests.standin import Hub, Image, make_image
from tests.support.accounts import WORD, upstream
from tests.support.mirror import Mirror, Run

TOKEN = "a-token-of-more-than-16"
OPERATORS = {"clients": {"ci": {"token": TOKEN}}, "operators": "ci"}
CI = encode_basic_auth("ci", TOKEN)
SECRET = "planes/xb-70"
CLIENT = "127.0.0.77"
PAGES = ("/", "/images", "/requests", "/setup", "/login", f"/images/docker.io/{SECRET}:n9f3")


async def pulled(hub: Hub, mirror: Mirror) -> Image:
    """Have a client pull a secret image, and fail to pull another one."""
    image = make_image(77, [10_000])
    hub.add(image, SECRET, "n9f3")
    for tag in ("n9f3", "missing"):
        path = f"/v2/{SECRET}/manifests/{tag}"
        await mirror.ask_from(CLIENT, path, User_Agent="spy/1.0")
    for blob in image.blobs:
        await mirror.ask_from(CLIENT, f"/v2/{SECRET}/blobs/{blob.digest}", User_Agent="spy/1.0")
    return image


def gets() -> list[str]:
    """Return all paths of the API that are read."""
    image = f"docker.io/{SECRET}:n9f3"
    paths = [each.path.replace("{image}", image) for each in ENDPOINTS if not each.acts]
    asks = {"/export": f"?image={image}"}
    return [f"/api/v1{path}{asks.get(path, '')}" for path in paths]


async def test_a_stranger_reads_no_name_of_image_client_or_account(run: Run, hub: Hub) -> None:
    hub.terms.users["payer-7"] = WORD
    hub.terms.account_limit = 1  # so that there is a concern about the account
    account = upstream(hub, username="payer-7", password=WORD)
    async with run(**OPERATORS, upstreams=account) as mirror:
        image = await pulled(hub, mirror)
        names = [SECRET, "xb-70", "n9f3", CLIENT, "payer-7", image.digest, "spy/1.0"]
        told = {path: await mirror.ask(path, Authorization=CI) for path in gets()}
        told["/"] = await mirror.ask("/", Authorization=CI, Accept_Encoding="identity")
        assert b"xb-70" in told["/"].body
        assert b"payer-7" in told["/"].body
        assert all(got.status == 200 for got in told.values()), told
        for path in (*PAGES, *gets()):
            got = await mirror.ask(path, Accept_Encoding="identity")
            seen = [name for name in names if name.encode() in got.body and name not in path]
            assert not seen, (path, seen)
            assert "xb-70" not in str(got.headers), path
        async with mirror.request("/events") as stream:
            seen_events = b""
            async with asyncio.timeout(5):
                while b"as-of" not in seen_events:
                    seen_events += await stream.content.readany()
        assert not [name for name in names if name.encode() in seen_events]


async def test_a_client_that_is_no_operator_is_a_stranger(run: Run, hub: Hub) -> None:
    clients = {"ci": {"token": TOKEN}, "dev": {"token": TOKEN * 2}}
    dev = encode_basic_auth("dev", TOKEN * 2)
    async with run(clients=clients, operators="ci") as mirror:
        await pulled(hub, mirror)
        for path in gets():
            got = await mirror.ask(path, Authorization=dev, Accept_Encoding="identity")
            assert got.status in (200, 403)
            assert b"xb-70" not in got.body.replace(path.encode(), b"")


FORWARDED = [
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-For": "203.0.113.7"},
    {"Forwarded": "for=127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"Via": "1.1 front"},
]


@pytest.mark.parametrize("headers", FORWARDED)
async def test_a_front_on_the_same_machine_lends_its_address_to_no_client(
    mirror: Mirror, headers: dict[str, str]
) -> None:
    assert (await mirror.ask("/api/v1/images")).status == 200
    named = {key.replace("-", "_"): value for key, value in headers.items()}
    assert (await mirror.ask("/api/v1/images", **named)).status == 403


@pytest.mark.parametrize("forwarded", ["", "127.0.0.1, 203.0.113.7", "127.0.0.1", "unix:"])
async def test_behind_a_trusted_front_no_client_is_on_this_machine(
    run: Run, forwarded: str
) -> None:
    """The front's own loopback, or one that it was told of, would be taken for the mirror's."""
    async with run(trusted_proxies=["127.0.0.1"]) as mirror:
        named = {"X_Forwarded_For": forwarded} if forwarded else {}
        assert (await mirror.ask("/api/v1/images", **named)).status == 403


async def test_a_sidecar_or_an_old_front_is_no_client_on_this_machine(mirror: Mirror) -> None:
    assert (await mirror.ask_from("127.0.0.6", "/api/v1/images")).status == 403
    reader, writer = await asyncio.open_connection(*mirror.daemon.address)
    writer.write(b"GET /api/v1/images HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readline()).split()[1] == b"403"
    writer.close()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:99999", "[x", "[::1]x", "a b", 'a"b', "x@127.0.0.1", "127.0.0.1/", "xn--.local"],
)
async def test_a_host_that_is_none_reaches_no_page(mirror: Mirror, host: str) -> None:
    for path in ("/", "/setup"):
        assert (await mirror.ask(path, Host=host)).status in (400, 421)


async def test_no_order_makes_a_line_of_the_log_of_its_own(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    async with run(**OPERATORS) as mirror:
        path = "/api/v1/images/docker.io/library/x%0aorder%20of%20root/refresh"
        assert (await mirror.ask(path, "POST", Authorization=CI)).status in (400, 404)
    assert not [line for line in capfd.readouterr().err.splitlines() if line.startswith("order of")]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_may_link_to_a_page_and_read_nothing(mirror: Mirror, site: str) -> None:
    visit = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert (await mirror.ask("/", Sec_Fetch_Site=site, **visit)).status == 200
    for mode, dest in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")):
        got = await mirror.ask(
            "/api/v1/images", Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=dest
        )
        assert got.status == 403
        assert "Access-Control-Allow-Origin" not in got.headers
    got = await mirror.ask("/api/v1/images", Origin="http://attacker.example")
    assert got.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in got.headers


async def test_guesses_of_an_operators_password_are_slowed_down(run: Run) -> None:
    async with run(**OPERATORS) as mirror:
        wrong = [encode_basic_auth("ci", f"guess-{number}") for number in range(30)]
        statuses = [(await mirror.ask("/", Authorization=each)).status for each in wrong]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert (await mirror.ask("/", "POST", Authorization=CI)).status != 429  # who is right


FOREIGN = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}


@pytest.mark.parametrize(
    ("headers", "status"), [(FOREIGN, 403), ({"Host": "attacker.example"}, 421), ({}, 200)]
)
async def test_a_flood_is_bounded_and_each_refusal_of_it_costs_no_page(
    run: Run, headers: dict[str, str], status: int
) -> None:
    async with run(**OPERATORS, client_rate=1) as mirror:
        answers = [await mirror.ask("/static/icon.svg", **headers) for _ in range(20)]
        assert answers[0].status == status
        assert answers[-1].status == 429
        assert int(answers[-1].headers["Retry-After"]) > 0
        refused = [each for each in answers if each.status >= 400]
        assert {each.headers["Content-Type"] for each in refused} == {"text/plain; charset=utf-8"}
        assert max(len(each.body) for each in refused) < 300
        assert (await mirror.ask("/", Authorization=CI)).status == 200
        assert (await mirror.ask("/v2/")).status == 200


PRIVATE = [{"challenge": True}, {"anonymous": ()}]


@pytest.mark.parametrize("private", PRIVATE)
async def test_a_private_mirror_names_its_upstreams_at_setup_to_its_clients_only(
    run: Run, private: dict[str, object]
) -> None:
    clients = {"ci": {"token": TOKEN}, "dev": {"token": TOKEN * 2}}
    upstreams = {"secret.example": {"url": "http://127.0.0.1:1"}}
    async with run(clients=clients, operators="ci", upstreams=upstreams, **private) as mirror:
        for client in ("docker", "containerd", "podman", "k3s"):
            got = await mirror.ask(f"/setup?client={client}", Accept_Encoding="identity")
            assert got.status == 401
            assert b"secret.example" not in got.body
        for token in (TOKEN, TOKEN * 2):
            got = await mirror.ask(
                "/setup?client=containerd",
                Authorization=f"Bearer {token}",
                Accept_Encoding="identity",
            )
            assert b"secret.example" in got.body


async def test_an_open_mirror_shows_anyone_how_to_set_up_a_client(run: Run) -> None:
    async with run(**OPERATORS) as mirror:
        assert (await mirror.ask("/setup")).status == 200


TARGETS = [
    "/images/%00",
    "/images/%ff%fe",
    "/images/docker.io/%3Cscript%3Ealert(1)%3C/script%3E",
    "/images/docker.io/library/a:%22onmouseover=%22x",
    "/images/../../etc/passwd",
    "/images/%2e%2e/%2e%2e/etc/passwd",
    "/static/../../etc/passwd",
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/static//etc/passwd",
    "/static/style.css%00",
    "/images/" + "a/" * 3000,
    "/images/docker.io/" + "a" * 7000,
    "/images/docker.io/library/a@sha256:" + "g" * 64,
    "/api/v1/images/%F0%9F%92%A9",
    "/api/v1/images/\u202e".encode().decode("latin-1"),
    "/api/v1//status",
    "/api/v1/images?" + "&".join(f"a{number}=b" for number in range(1000)),
    "/api/v1/images?after=" + "%0d%0aSet-Cookie:%20a=b",
    "/login?to=//attacker.example",
    "/login?to=https://attacker.example",
    "/login?to=/%0d%0aSet-Cookie:%20a=b",
    "/login?to=/\\attacker.example",
    "/requests?client=%1b[31m&outcome=%00",
    "/setup?client=%1b%5b31m",
    "/events?span=" + "a" * 5000,
    "/?span=%f0%28",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_hostile_target_is_refused_or_harmless(
    run: Run, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with run(**OPERATORS) as mirror:
        for login in ("", CI):
            reader, writer = await asyncio.open_connection(*mirror.daemon.address)
            head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            head += f"Authorization: {login}\r\n" if login else ""
            writer.write(f"{head}\r\n".encode("latin-1"))
            async with asyncio.timeout(10):
                got = await reader.read(65536)
            writer.close()
            status = int(got.split(b" ")[1])
            assert status in (200, 303, 400, 401, 404), got
            lines = got.partition(b"\r\n\r\n")[0].split(b"\r\n")
            assert not [line for line in lines if line.lower().startswith(b"set-cookie")]
            assert b"attacker" not in b"".join(x for x in lines if x.startswith(b"Location"))
            assert b"<script>alert" not in got
            assert b"root:" not in got
            assert b"\x1b" not in got
    assert "unexpected failure" not in caplog.text


async def test_a_thousand_questions_at_once_hold_up_no_pull(run: Run, image: Image) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        path = "/v2/library/nginx/manifests/latest"
        await asyncio.gather(*(mirror.ask("/") for _ in range(5)))  # the first ones compile
        with steps() as longest:
            paths = ["/", "/api/v1/status", "/api/v1/budget", "/api/v1/history?span=day"]
            asked = [asyncio.create_task(mirror.ask(paths[n % 4])) for n in range(1000)]
            took = list[float]()
            while not all(each.done() for each in asked):
                begun = time.monotonic()
                assert (await mirror.ask(path)).cache == "hit"
                took.append(time.monotonic() - begun)
            answered = await asyncio.gather(*asked)
        assert {each.status for each in answered} <= {200, 503}
        assert longest.seconds < MOST, longest.what
        assert statistics.median(took) < 5


async def test_a_hanging_reader_of_a_page_holds_up_none(run: Run) -> None:
    async with run(client_timeout=1) as mirror:
        writers = []
        for _ in range(100):
            _, writer = await asyncio.open_connection(*mirror.daemon.address, limit=512)
            writer.write(b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: a.local\r\n\r\n" * 50)
            writers.append(writer)
        async with asyncio.timeout(5):
            assert (await mirror.ask("/api/v1/status")).status == 200
        for writer in writers:
            writer.close()
