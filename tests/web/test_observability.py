"""Observability: metrics that count events, one line per request, pages for health."""

from __future__ import annotations

import json
import re
import tracemalloc

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.standin import Fault, Hub, Image
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/nginx"


async def metrics(mirror: Mirror) -> dict[str, float]:
    """All samples by name and labels."""
    got = await mirror.ask("/metrics")
    assert got.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(got.body.decode())
        for sample in family.samples
    }


def value(samples: dict[str, float], name: str, **labels: str) -> float:
    """One sample."""
    return samples[name + json.dumps(labels, sort_keys=True)]


async def test_requests_are_counted_by_kind_and_outcome(hub: Hub, run: Run, image: Image) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        await mirror.manifest(REPOSITORY, "latest")
        await mirror.manifest(REPOSITORY, image.digest)
        await mirror.manifest(REPOSITORY, "nope")
        await mirror.blob(REPOSITORY, image.layers[1].digest)
        hub.faults.add(Fault(kind="manifest", status=503, times=None))
        await mirror.manifest(REPOSITORY, "latest")
        await mirror.manifest(REPOSITORY, "new")
        samples = await metrics(mirror)
    for outcome, count in {"hit": 1, "miss": 2, "revalidated": 1, "stale": 1, "error": 1}.items():
        assert value(samples, "mirror_requests_total", kind="manifest", outcome=outcome) == count
    assert value(samples, "mirror_requests_total", kind="blob", outcome="miss") == 1
    assert value(samples, "mirror_request_seconds_count", kind="manifest") == 6


async def test_bytes_are_counted_by_where_they_came_from(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    for _ in range(3):
        await mirror.blob(REPOSITORY, image.layers[1].digest)
        await mirror.settled()
    samples = await metrics(mirror)
    size = image.layers[1].size
    assert value(samples, "mirror_sent_bytes_total", source="upstream") == size
    assert value(samples, "mirror_sent_bytes_total", source="cache") == 2 * size
    assert value(samples, "mirror_upstream_received_bytes_total", upstream="docker.io") == size


async def test_upstreams_answers_are_counted_by_kind_and_status(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    await mirror.manifest(REPOSITORY, "latest")
    await hub.down()
    await mirror.manifest(REPOSITORY, "other")
    await hub.up()
    samples = await metrics(mirror)
    common = {"upstream": "docker.io", "kind": "manifest"}
    name = "mirror_upstream_requests_total"
    assert value(samples, name, **common, method="HEAD", status="401") == 1
    assert value(samples, name, **common, method="HEAD", status="200") == 1
    assert value(samples, name, **common, method="GET", status="200") == 1
    assert value(samples, name, **common, method="HEAD", status="none") >= 1
    assert value(samples, name, upstream="docker.io", kind="token", method="GET", status="200") == 1


async def test_the_cache_and_the_pull_budget_are_shown(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.terms.limit = 100
    await mirror.pull(REPOSITORY, "latest", image)
    samples = await metrics(mirror)
    assert value(samples, "mirror_cache_bytes") == mirror.stored.used > image.layers[1].size
    assert value(samples, "mirror_cache_limit_bytes") == 50 * 1024**3
    assert value(samples, "mirror_cache_blobs") == 4
    assert value(samples, "mirror_evictions_total") == 0
    assert value(samples, "mirror_fetches") == value(samples, "mirror_followers") == 0
    account = {"upstream": "docker.io", "account": ""}
    assert value(samples, "mirror_pull_limit", **account) == 100
    assert value(samples, "mirror_pull_remaining", **account) == 99
    assert value(samples, "mirror_pull_used", **account) == 1
    assert value(samples, "mirror_pull_window_seconds", **account) == 21600


async def test_no_label_names_a_repository_or_a_client(mirror: Mirror, image: Image) -> None:
    await mirror.pull(REPOSITORY, "latest", image)
    await mirror.manifest("library/" + "x" * 50, "latest")
    text = (await mirror.ask("/metrics")).body.decode()
    assert "nginx" not in text
    assert "xxx" not in text
    assert "127.0.0.1" not in text


async def test_alive_and_ready_are_told_apart(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("/healthz", "/readyz"):
        got = await mirror.ask(path)
        assert (got.status, got.body) == (200, b"ok\n")
    monkeypatch.setattr("os.access", lambda *_: False)
    assert (await mirror.ask("/healthz")).status == 200
    unready = await mirror.ask("/readyz")
    assert (unready.status, b"cannot write" in unready.body) == (503, True)


async def test_each_request_leaves_one_line_with_what_one_greps_for(
    run: Run, image: Image, capfd: pytest.CaptureFixture[str]
) -> None:
    async with run() as mirror:
        await mirror.ask(
            f"/v2/{REPOSITORY}/manifests/latest", User_Agent='docker "x" y', Authorization="s3cret"
        )
        await mirror.blob(REPOSITORY, image.layers[1].digest)
        await mirror.ask("/v2/UPPER/manifests/latest")
    err = capfd.readouterr().err
    lines = [line for line in err.splitlines() if "client=" in line]
    assert len(lines) == 3
    manifest, blob, refused = lines
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z client=127\.0\.0\.1 ", manifest)
    for part in (
        " method=GET ",
        f" target=/v2/{REPOSITORY}/manifests/latest ",
        " status=200 ",
        f" bytes={len(image.manifest)} ",
        " outcome=miss ",
        " kind=manifest ",
        f" repository=docker.io/{REPOSITORY} ",
        ' agent="docker \\"x\\" y"',
    ):
        assert part in manifest
    assert f" bytes={image.layers[1].size} " in blob
    assert " outcome=own " in refused
    assert "invalid repository name" in refused
    assert "s3cret" not in err


async def test_what_a_client_says_at_length_is_cut_in_the_log(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    async with run() as mirror:
        await mirror.ask("/" + "p" * 9000, User_Agent="a" * 9000)
    [line] = [line for line in capfd.readouterr().err.splitlines() if "client=" in line]
    assert len(line) < 2000
    assert line.count("(9001 characters)") == line.count("(9000 characters)") == 1


async def test_no_client_fills_the_memory_by_what_it_says(run: Run) -> None:
    async with run() as mirror:
        await mirror.ask("/healthz")
        tracemalloc.start()
        for number in range(300):
            await mirror.ask("/healthz", User_Agent=f"{number}" + "ü" * 7000)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert grown < 4 * 1024**2


async def test_lines_are_json_by_choice(
    run: Run, image: Image, capfd: pytest.CaptureFixture[str]
) -> None:
    async with run(log_format="json") as mirror:
        await mirror.manifest(REPOSITORY, "latest")
    [line] = [
        json.loads(line) for line in capfd.readouterr().err.splitlines() if '"client"' in line
    ]
    assert (line["status"], line["outcome"], line["kind"]) == (200, "miss", "manifest")
    assert line["repository"] == f"docker.io/{REPOSITORY}"
    assert line["bytes"] == len(image.manifest)


async def test_every_answer_has_a_cache_status(hub: Hub, mirror: Mirror, image: Image) -> None:
    digest = image.config.digest
    for path in (
        "/v2/",
        "/healthz",
        "/metrics",
        "/nowhere",
        f"/v2/{REPOSITORY}/manifests/latest",
        f"/v2/{REPOSITORY}/manifests/nope",
        f"/v2/{REPOSITORY}/blobs/{digest}",
        f"/v2/{REPOSITORY}/tags/list",
        f"/v2/{REPOSITORY}/referrers/{digest}",
    ):
        for method in ("GET", "HEAD", "POST"):
            assert (await mirror.ask(path, method)).headers["Cache-Status"].startswith("mirror; ")
