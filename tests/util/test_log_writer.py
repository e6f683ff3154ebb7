"""Log lines are written by a thread: a log's reader that stalls delays nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mirror.util.log_writer import LogWriter
from mirror.web.observability.access_log import AccessLog, Line
from tests.support.command import MODULE, NOBODY, environment, fetch, launched

LONG = Line(0, "c", "-", "GET", "/" * 5000, 200, 0, 0, "hit", "blob", "r", "ü" * 5000, "", "-")
CHATTY = (
    "import logging, sys, mirror.util.logs\n"
    "with mirror.util.logs.standard_error('text') as log_writer:\n"
    "    mirror.util.logs.set_up('text', 'info', log_writer)\n"
    "    for number in range(5000):\n"
    "        logging.getLogger('mirror.some').warning('line %05d %s', number, '.' * 50)\n"
)


def notice(lines: int) -> str:
    """Return the line that says how many lines are missing."""
    return f"{lines} missing\n"


def all_of(descriptor: int) -> str:
    """Read a pipe to its end."""
    with os.fdopen(descriptor, "rb") as file:
        return file.read().decode()


def test_a_reader_that_stalls_costs_lines_and_no_more_than_so_much_memory() -> None:
    reader, writer = os.pipe()
    log_writer = LogWriter(writer, notice)
    log = AccessLog("text", log_writer)
    while not log_writer.dropped:
        log.add(LONG)
    log.add(LONG)
    assert log_writer.dropped == 2
    log_writer.add("urgent\n", urgent=True)
    assert log_writer.dropped == 2  # urgent lines have separate room
    with ThreadPoolExecutor(1) as pool:
        text: Future[str] = pool.submit(all_of, reader)
        with log_writer:
            pass
        os.close(writer)
        read = text.result(10)
    assert 15 * 1024**2 < len(read) < 20 * 1024**2
    assert read.endswith("\n2 missing\nurgent\n")  # the notice stands in their place


def test_how_many_are_missing_is_told_though_nothing_more_is_logged() -> None:
    reader, writer = os.pipe()
    log_writer = LogWriter(writer, notice)
    while not log_writer.dropped:
        log_writer.add("x" * 100_000 + "\n")
    with ThreadPoolExecutor(1) as pool:
        text: Future[str] = pool.submit(all_of, reader)
        with log_writer:
            pass
        log_writer.add("late\n")  # the process's last line, after the thread has ended
        os.close(writer)
        assert text.result(10).endswith("x\n1 missing\nlate\n")


def test_lines_whose_reader_has_gone_are_counted() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with LogWriter(writer, notice) as log_writer:
        log_writer.add("one\n", urgent=True)
        log_writer.add("two\n")
    os.close(writer)
    assert log_writer.dropped >= 2


@asynccontextmanager
async def unread(*arguments: str | Path, code: str = "") -> AsyncIterator[tuple[Process, int]]:
    """Run a command with a pipe as standard error that is not read; yields the pipe, too."""
    reader, writer = os.pipe()
    command = (sys.executable, "-c", code) if code else (*MODULE, *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, env=environment(), stdout=PIPE, stderr=writer
    )
    os.close(writer)
    try:
        yield process, reader
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(reader)


async def greeted(process: Process) -> str:
    """Wait for the greeting of a daemon; returns its URL."""
    assert process.stdout
    async with asyncio.timeout(20):
        while b"listens on" not in (line := await process.stdout.readline()):
            assert line
    return line.split()[-1].decode()


async def flooded(url: str) -> None:
    """Have a daemon log more than a pipe takes, access lines and others."""
    async with aiohttp.ClientSession() as session:
        for number in range(300):
            path = f"{url}/v2/library/a{number}/manifests/latest"
            async with session.get(path, headers={"User-Agent": "a" * 500}) as response:
                assert response.status in (404, 502, 503, 504)
    assert (await fetch(f"{url}/healthz"))[0] == 200


async def test_a_daemon_with_an_unread_log_serves_on_and_ends_in_time(tmp_path: Path) -> None:
    flags = ("--listen", "127.0.0.1:0", "--data-dir", tmp_path, "--upstream", NOBODY)
    async with unread("serve", *flags, "--log-level", "debug") as (process, _):
        url = await greeted(process)
        async with asyncio.timeout(60):
            await flooded(url)
            told = (await fetch(f"{url}/metrics"))[1].decode()
        figures = {
            sample.name: sample.value
            for family in text_string_to_metric_families(told)
            for sample in family.samples
        }
        assert figures["mirror_loop_lag_most_seconds"] < 0.2
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await process.wait() == 0


async def test_a_daemon_with_an_unread_log_heeds_a_second_signal(tmp_path: Path) -> None:
    flags = ("--listen", "127.0.0.1:0", "--data-dir", tmp_path, "--upstream", NOBODY)
    async with unread("serve", *flags) as (process, _):
        await flooded(await greeted(process))
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(15):
            while process.returncode is None:
                process.send_signal(signal.SIGINT)
                await asyncio.wait([asyncio.create_task(process.wait())], timeout=0.2)


@pytest.mark.parametrize("last", ["", "    raise SystemError('the last word')\n"])
async def test_all_that_was_logged_before_an_end_is_written(last: str) -> None:
    async with launched("-c", CHATTY + last, command=[sys.executable]) as program:
        lines = (await program.ended()).err.splitlines()
    assert [int(line.split()[4]) for line in lines[:5000]] == list(range(5000))
    assert lines[5000:] == [] if not last else lines[-1] == "SystemError: the last word"


async def test_a_reader_that_never_reads_does_not_keep_a_process_from_its_end() -> None:
    """The interpreter's own last lines do not keep it either."""
    async with unread(code=CHATTY + "raise SystemError('the last word')\n") as (process, _):
        async with asyncio.timeout(15):
            assert await process.wait() == 1


async def test_a_reader_that_reads_late_gets_all_of_it() -> None:
    async with unread(code=CHATTY) as (process, reader):
        copy = os.dup(reader)
        text = await asyncio.to_thread(all_of, copy)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    assert text.count("\n") == 5000


async def test_an_offline_commands_log_is_written_behind_too(tmp_path: Path) -> None:
    """The errors of the command's work come before the error that ends it."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "index.db").write_bytes(b"no index" * 1000)
    async with launched("gc", "--data-dir", tmp_path) as command:
        ended = await command.ended()
    assert "is damaged" in ended.err
    assert ended.code == 0


async def test_a_closed_standard_error_is_no_other_files(tmp_path: Path) -> None:
    """The descriptor's number goes to the next file that is opened, such as the index."""
    flags = f"--listen 127.0.0.1:0 --data-dir {tmp_path} --upstream {NOBODY}"
    command = f"exec {sys.executable} -m mirror serve {flags} 2>&-"
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command, env=environment(), stdout=PIPE
    )
    try:
        assert (await fetch(f"{await greeted(process)}/v2/"))[0] == 200
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert not await asyncio.to_thread(logged_in, tmp_path)


def logged_in(folder: Path) -> list[Path]:
    """Return the files of a folder that hold a line of the access log."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if b"client=127" in path.read_bytes()]
