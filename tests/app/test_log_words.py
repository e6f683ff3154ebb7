"""Log lines are sentences for an operator, without the forms of Python objects."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import get_args

import aiohttp
import pytest

import mirror
from mirror.admin.messages import (
    BudgetOrder,
    DuOrder,
    GcOrder,
    PurgeOrder,
    ReloadOrder,
    VerifyOrder,
    Work,
)
from mirror.oci.digest import Digest
from mirror.storage.blobs.files import BlobFiles
from tests.standin import Fault, Hub, Image
from tests.support.command import MODULE, fetch, launched, serve_to_the_end, until_there

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
REPOSITORY = "library/nginx"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
# Records, tuples, objects, errors with their number, classes of exceptions.
INSIDES = re.compile(
    r"<[A-Z]\w+|\w\(\w+=|\(['\"(]|\[Errno|object at 0x|\b[A-Z]\w+(Error|Exception)\b|\bNone\b"
)


def calls() -> Iterator[tuple[Path, ast.Call]]:
    """Find every call of a logger in the package."""
    for path in sorted(Path(mirror.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and isinstance(called, ast.Attribute):
                of = called.value
                if called.attr in LEVELS and isinstance(of, ast.Name) and of.id == "_log":
                    yield path, node


def test_no_line_is_a_repr() -> None:
    found = list(calls())
    assert len(found) > 50
    wrong = [f"{path}:{call.lineno}" for path, call in found if "%r" in ast.unparse(call)]
    assert not wrong


def test_errors_go_into_a_line_in_words() -> None:
    """An OSError's own text has its number in it, an SSLError's a line of C."""
    system = {"OSError", "Exception", "ConnectionError", "TimeoutError"}
    wrong = []
    for path in sorted(Path(mirror.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ExceptHandler) or node.name is None or node.type is None:
                continue
            caught = set(re.findall(r"\w+", ast.unparse(node.type)))
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and "_log" in ast.unparse(call.func):
                    plain = [each for each in call.args if ast.unparse(each) == node.name]
                    if plain and caught & system:
                        wrong.append(f"{path}:{call.lineno}")
    assert not wrong


def test_the_lines_that_the_docs_quote_are_those_of_the_log() -> None:
    text = OPERATIONS.read_text()
    table = text[text.index("| In the log | It means |") :].partition("\n\n")[0]
    phrases = re.findall(r"(?m)^\| `([^`]+)` \|", table)
    package = "".join(path.read_text() for path in Path(mirror.__file__).parent.rglob("*.py"))
    source = re.sub(r'"\s+f?"', "", package)  # a text on two lines is one text
    assert len(phrases) > 30
    fields = {"outcome=stale", "status=429"}
    assert [each for each in phrases if each not in source and each not in fields] == []


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (PurgeOrder("library/nginx"), "purge library/nginx"),
        (VerifyOrder(percent=5.0, rate=1000), "verify --sample 5% --rate 1000"),
        (VerifyOrder(count=7), "verify --sample 7"),
        (GcOrder(), "gc"),
        (DuOrder(), "du"),
        (BudgetOrder(), "budget"),
        (ReloadOrder(), "reload"),
    ],
)
def test_an_order_is_told_as_it_was_typed(order: object, words: str) -> None:
    assert str(order) == words


def test_every_order_says_how_it_was_typed() -> None:
    assert all("__str__" in vars(each) for each in get_args(Work))


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_bad_day_is_told_in_words_alone(
    hub: Hub, tmp_path: Path, image: Image, form: str
) -> None:
    """All faults that can occur at once do, and the log has each decision."""
    folder, flags = tmp_path / "data", ("--log-level", "debug", "--log-format", form)
    upstreams = (
        *("--upstream", f"docker.io={hub.url}"),
        *("--upstream", "gone.example=http://127.0.0.1:1"),
    )
    more = ("--tag-ttl", "0", "--limit-check", "0", "--shutdown-grace", "0.2")
    listen = ("--listen", "127.0.0.1:0", "--data-dir", str(folder))
    command = launched("serve", *listen, *flags, *upstreams, *more)
    async with command as running:
        await running.says("listening on")
        [address] = re.findall(r"listening on ([\d.:]+)", running.err)
        url = f"http://{address}/v2/{REPOSITORY}"
        for _ in range(2):
            assert (await fetch(f"{url}/manifests/latest"))[0] == 200
        assert (await fetch(f"{url}/manifests/nope"))[0] == 404
        for blob in image.blobs:
            assert (await fetch(f"{url}/blobs/{blob.digest}"))[0] == 200
        path = BlobFiles(folder).path(Digest(image.layers[1].digest))
        await asyncio.to_thread(until_there, path)
        path.write_bytes(b"x")
        hub.faults.add(Fault(kind="blob", corrupt_at=70_000, times=2))
        await fetch_or_broken(f"{url}/blobs/{image.layers[1].digest}")
        hub.faults.add(Fault(kind="manifest", status=503, times=None))
        assert (await fetch(f"{url}/manifests/latest"))[0] == 200
        assert (await fetch(f"http://{address}/v2/gone.example/a/manifests/1"))[0] == 503
        assert (await fetch(f"{url}/blobs/sha256:{'0' * 64}"))[0] == 404
        for words in (("verify",), ("gc",), ("purge", "--yes", REPOSITORY), ("purge", "nginx:no")):
            async with launched(words[0], "--data-dir", folder, *words[1:], command=MODULE) as it:
                await it.ended()
        running.send(signal.SIGTERM)
        ended = await running.ended()
    assert ended.code == 0
    lines = ended.err.splitlines()
    assert "order: purge library/nginx" in ended.err
    assert len(lines) > 25
    if form == "json":
        told = [json.loads(line) for line in lines]
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in told)
        lines = [line["message"] for line in told]
    assert [line for line in lines if INSIDES.search(line)] == []


async def test_why_it_does_not_start_is_a_line_like_all_others(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("no folder")
    flags = ("--data-dir", tmp_path, "--listen", "127.0.0.1:0", "--log-format", "json")
    ended = await serve_to_the_end(*flags)
    [line] = ended.err.splitlines()
    told = json.loads(line)
    assert (ended.code, told["level"]) == (2, "critical")
    assert str(tmp_path) in told["message"]


async def fetch_or_broken(url: str) -> None:
    """Ask for a URL; the answer may break off."""
    with suppress(aiohttp.ClientError):
        assert (await fetch(url))[0] in (200, 502)
