"""The checks after a crash, by the list of possible losses in docs/operations.md."""

from __future__ import annotations

import signal
from pathlib import Path

import aiohttp

from tests.crashes.cases import Case
from tests.crashes.scene import LIMIT, Told, options, pull
from tests.standin import Hub, Image
from tests.storage.test_crash import held, the_books_are_right
from tests.support.command import SMALL, serving
from tests.support.folder import DataFolder

_KILLED = -signal.SIGKILL
_REFUSED = 2  # exit code of a start that fails by the disk


def crash(case: Case, told: Told) -> list[str]:
    """Check the answers before the crash, and the exit."""
    wrong = list(told.wrong) if case.effect != "KILL" else []
    wrong += [each for each in told.wrong if each.startswith("wrong") and each not in wrong]
    if "Traceback" in told.said:
        wrong.append(f"a traceback: {told.said[-1500:]}")
    fine = {0, _KILLED} if case.effect == "KILL" else {0}
    if told.code not in fine and not (told.code == _REFUSED and not told.serving):
        wrong.append(f"exit code {told.code}: {told.said[-500:]}")
    return wrong


async def afterwards(data: Path, hub: Hub, images: list[Image], told: Told) -> list[str]:
    """Check that the next start serves all, and accounting, files, links, ledger and bound."""
    again, wrong = Told(), list[str]()
    if (size := held(data)) > LIMIT:
        wrong.append(f"{size} bytes were left, {LIMIT} are allowed")
    try:
        async with serving(data, *options(hub), command=SMALL) as command:
            url = await command.address(within=30)
            for number, image in enumerate(images):
                await pull(url, number, image, again)
            command.send(signal.SIGTERM)
            ended = await command.ended(within=30)
        if ended.code or "Traceback" in ended.err or "ERROR" in ended.err:
            wrong.append(f"the next life ends with {ended.code}: {ended.err[-1500:]}")
        await the_books_are_right(data, LIMIT)
    except (AssertionError, aiohttp.ClientError, TimeoutError) as error:
        wrong.append(f"afterwards: {error!r}"[:1500])
    return wrong + again.wrong + _index(data, images, told)


def _index(data: Path, images: list[Image], told: Told) -> list[str]:
    owned = {f"library/i{number}": _digests(image) for number, image in enumerate(images)}
    with DataFolder(data).database() as database:
        links = database.execute(
            "SELECT digest_text(digest), repository FROM named_link"
        ).fetchall()
        [pulls] = database.execute("SELECT count(*) FROM pull").fetchone()
    wrong = [f"a wrong link: {row}" for row in links if row[0] not in owned.get(row[1], ())]
    if pulls < told.entered:
        wrong.append(f"{pulls} pulls in the ledger, {told.entered} were answered in time")
    return wrong


def _digests(image: Image) -> set[str]:
    return {image.digest, *(blob.digest for blob in image.blobs)}
