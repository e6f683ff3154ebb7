"""`mirror export` and `mirror import`: images move whole and proven, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.standin import Hub, Image, make_image, make_index
from tests.standin.images import Index
from tests.support.command import (
    MODULE,
    NOBODY,
    SMALL,
    Ended,
    environment,
    fetch,
    launched,
    serving,
)
from tests.support.folder import DataFolder
from tests.support.mirror import Run
from tests.support.waiting import until

BOTH = pytest.mark.parametrize("beside", [True, False], ids=["beside a daemon", "alone"])
KINDS = pytest.mark.parametrize("name", ["images.tar", "images"], ids=["tar", "folder"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of the exporting mirror."""
    return tmp_path / "data"


@pytest.fixture
def other_folder(tmp_path: Path) -> Path:
    """The data folder of the importing mirror, empty, as a first start leaves it."""
    folder = tmp_path / "other"
    (folder / "blobs").mkdir(parents=True)
    return folder


@pytest.fixture
def app(hub: Hub) -> Index:
    """An image for two platforms, `library/app:1`."""
    images = [
        make_image("app", [400_000, 90_000], architecture=each) for each in ("amd64", "arm64")
    ]
    index = make_index(images)
    hub.add(index, "library/app", "1")
    return index


@pytest.fixture
async def filled(run: Run, hub: Hub, image: Image, app: Index) -> Index:
    """A mirror, ended, that pulled `nginx:latest`, and `app:1` for amd64."""
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        assert (await mirror.manifest("library/app", "1")).body == app.manifest
        assert (await mirror.manifest("library/app", app.images[0].digest)).status == 200
        for blob in app.images[0].blobs:
            assert (await mirror.blob("library/app", blob.digest)).status == 200
        await mirror.settled()
    return app


async def do(*arguments: str | Path) -> Ended:
    """Run a command to its end."""
    async with launched(*arguments) as command:
        return await command.ended(30)


@asynccontextmanager
async def daemon(
    folder: Path, upstream: str = NOBODY, *, there: bool = True
) -> AsyncIterator[None]:
    """Run a mirror if `there`, without an upstream that answers."""
    if not there:
        yield
        return
    async with serving(folder, "--upstream", upstream) as command:
        await command.address()
        yield


async def exported(folder: Path, output: Path, *images: str) -> Path:
    """Export images; returns the layout."""
    ended = await do("export", *images, "--output", output, "--data-dir", folder)
    assert ended.code == 0, ended
    return output


async def imported(folder: Path, layout: Path, *options: str) -> Ended:
    """Import a layout, without a daemon."""
    return await do("import", layout, "--data-dir", folder, *options)


async def is_pulled(folder: Path, repository: str, tag: str, *images: Image | Index) -> None:
    """Fail unless a mirror without upstream serves a tag, with all the content of its images."""
    async with serving(folder, "--upstream", NOBODY) as command:
        url = f"{await command.address()}/v2/{repository}"
        assert await fetch(f"{url}/manifests/{tag}") == (200, images[0].manifest)
        for image in images:
            assert await fetch(f"{url}/manifests/{image.digest}") == (200, image.manifest)
            for blob in image.blobs if isinstance(image, Image) else ():
                assert await fetch(f"{url}/blobs/{blob.digest}") == (200, blob.read())


def stored(folder: Path) -> set[str]:
    """Return the names of stored files, partials included."""
    places = (folder / "blobs", folder / "partial", folder / "quarantine")
    return {file.name for place in places for file in place.rglob("*") if file.is_file()}


def left_by(place: Path) -> list[Path]:
    """Return what exports to `a.tar` or `a` have left."""
    return [each for each in place.iterdir() if each.name.lstrip(".").split(".")[0] == "a"]


def pack(output: Path, files: dict[str, bytes]) -> Path:
    """Write an archive of files."""
    with tarfile.open(output, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return output


def files_of(image: Image, name: str | None = "docker.io/library/nginx:1") -> dict[str, bytes]:
    """Return the files of a layout with one image."""
    notes = {} if name is None else {"io.containerd.image.name": name}
    root = {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": image.size,
        "annotations": notes,
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [root]}).encode()
    content = {image.digest: image.manifest} | {each.digest: each.read() for each in image.blobs}
    named = {f"blobs/{digest.replace(':', '/')}": data for digest, data in content.items()}
    return {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index} | named


@KINDS
@BOTH
async def test_exported_images_are_served_by_a_mirror_without_upstream(
    hub: Hub,
    filled: Index,
    image: Image,
    folder: Path,
    other_folder: Path,
    tmp_path: Path,
    name: str,
    beside: bool,
) -> None:
    async with daemon(folder, there=beside):
        layout = await exported(folder, tmp_path / name, "nginx", "app:1")
    async with daemon(other_folder, there=beside):
        ended = await imported(other_folder, layout)
    assert ended.code == 0, ended
    assert "docker.io/library/nginx:latest  " in ended.out
    assert not ended.err
    await is_pulled(other_folder, "library/nginx", "latest", image)
    await is_pulled(other_folder, "library/app", "1", filled, filled.images[0])


async def test_the_running_mirror_serves_an_image_as_soon_as_it_is_imported(
    hub: Hub, image: Image, other_folder: Path, tmp_path: Path
) -> None:
    layout = pack(tmp_path / "x.tar", files_of(image))
    async with serving(other_folder, "--upstream", NOBODY) as command:
        url = f"{await command.address()}/v2/library/nginx/manifests/1"
        assert (await fetch(url))[0] == 503
        assert (await imported(other_folder, layout)).code == 0
        assert await fetch(url) == (200, image.manifest)


@BOTH
async def test_an_export_says_what_of_an_image_is_not_stored(
    hub: Hub, filled: Index, folder: Path, tmp_path: Path, beside: bool
) -> None:
    async with daemon(folder, there=beside):
        ended = await do(
            "export", "app:1", "never:1", "--output", tmp_path / "a.tar", "--data-dir", folder
        )
    assert ended.code == 1
    assert "platforms: linux/amd64\n" in ended.out
    assert "not stored: linux/arm64\n" in ended.out
    assert "docker.io/library/never:1 is not exported: nothing of" in ended.err


async def test_a_platform_that_is_not_stored_is_not_exported(
    hub: Hub, filled: Index, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.tar"
    wanted = ("export", "app:1", "--output", output, "--data-dir", folder, "--platform")
    ended = await do(*wanted, "linux/arm64")
    assert ended.code == 1
    assert "not stored: linux/arm64" in ended.err
    assert not output.exists()
    assert (await do(*wanted, "linux/amd64")).code == 0
    assert tarfile.is_tarfile(output)
    output.unlink()
    assert (await do(*wanted, "x86_64")).code == 0  # as other programs name it
    output.unlink()
    ended = await do(*wanted, "a b")
    assert (ended.code, "expected a platform" in ended.err) == (2, True)
    assert not left_by(tmp_path)


async def test_an_image_with_a_layer_of_another_repository_only_is_not_exported(
    run: Run, hub: Hub, image: Image, folder: Path, tmp_path: Path
) -> None:
    top = make_image("top", [1000], base=image)
    hub.add(top, "library/top", "1")
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        assert (await mirror.manifest("library/top", "1")).status == 200
        for blob in (top.config, top.layers[-1]):  # the client has the others already
            assert (await mirror.blob("library/top", blob.digest)).status == 200
        await mirror.settled()
    ended = await do("export", "top:1", "--output", tmp_path / "a.tar", "--data-dir", folder)
    assert ended.code == 1
    assert "2 of 4 blobs are not stored for docker.io/library/top" in ended.err
    assert not left_by(tmp_path)


async def test_the_same_images_make_the_same_archive(
    hub: Hub, filled: Index, folder: Path, tmp_path: Path
) -> None:
    one = await exported(folder, tmp_path / "1.tar", "nginx", "app:1")
    two = await exported(folder, tmp_path / "2.tar", "nginx", "app:1")
    assert one.read_bytes() == two.read_bytes()
    words = ("export", "nginx", "app:1", "--output", "-", "--data-dir", str(folder))
    piped = await asyncio.create_subprocess_exec(
        *MODULE, *words, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await piped.communicate()
    assert out == one.read_bytes()


async def test_a_damaged_blob_is_not_exported_and_nothing_is_left(
    hub: Hub, filled: Index, image: Image, folder: Path, tmp_path: Path
) -> None:
    path = folder / "blobs/sha256" / image.layers[1].digest[7:9] / image.layers[1].digest[7:]
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    for name in ("a.tar", "a"):
        ended = await do("export", "nginx", "--output", tmp_path / name, "--data-dir", folder)
        assert ended.code == 2
        assert f"{image.layers[1].digest} is damaged" in ended.err
    assert not left_by(tmp_path)


@KINDS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_an_export_that_a_signal_ends_leaves_nothing(
    hub: Hub, filled: Index, folder: Path, tmp_path: Path, number: signal.Signals, name: str
) -> None:
    output = tmp_path / name.replace("images", "a")
    async with serving(folder, "--upstream", NOBODY) as mirror:
        await mirror.address()
        mirror.send(signal.SIGSTOP)  # so that the export is not done before the signal
        async with launched("export", "nginx", "--output", output, "--data-dir", folder) as command:
            await until(lambda: bool(left_by(tmp_path)))
            command.send(number)
            ended = await command.ended()
    assert ended.code != 0
    assert not left_by(tmp_path)


async def test_nothing_that_exists_is_overwritten_unasked(
    hub: Hub, filled: Index, folder: Path, tmp_path: Path
) -> None:
    taken, full = tmp_path / "a.tar", tmp_path / "full"
    taken.write_text("mine")
    full.mkdir()
    (full / "file").write_text("mine")
    for output in (taken, full):
        ended = await do("export", "nginx", "--output", output, "--data-dir", folder)
        assert (ended.code, "exists" in ended.err) == (2, True)
    assert taken.read_text() == "mine"
    (tmp_path / "link.tar").symlink_to(taken)
    where = ("export", "nginx", "--data-dir", folder, "--force", "--output")
    assert (await do(*where, tmp_path / "link.tar")).code == 2
    assert (await do(*where, taken)).code == 0
    assert tarfile.is_tarfile(taken)


async def test_an_import_that_does_not_fit_writes_nothing(
    hub: Hub, image: Image, other_folder: Path, tmp_path: Path
) -> None:
    layout = pack(tmp_path / "x.tar", files_of(image))
    async with serving(
        other_folder, "--upstream", NOBODY, "--max-size", "2MiB", command=SMALL
    ) as command:
        await command.address()
        ended = await imported(other_folder, layout)
    assert (ended.code, "do not fit in max_size, 2.0 MiB" in ended.err) == (2, True)
    assert not stored(other_folder)


def _index(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    """Return a change to the document of index.json."""

    def apply(files: dict[str, bytes]) -> None:
        document = json.loads(files["index.json"])
        change(document)
        files["index.json"] = json.dumps(document).encode()

    return apply


def _root(**values: object) -> Callable[[dict[str, bytes]], None]:
    return _index(lambda document: document["manifests"][0].update(values))


def _spoil(files: dict[str, bytes]) -> None:
    name = max(files, key=lambda each: len(files[each]))
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])


def _shorten(files: dict[str, bytes]) -> None:
    name = max(files, key=lambda each: len(files[each]))
    files[name] = files[name][:-1]


def _twice(document: dict[str, Any]) -> None:
    document["manifests"].append(document["manifests"][0] | {"digest": "sha256:" + "a" * 64})


WRONG: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "a changed layer": (_spoil, "do not match its digest"),
    "a short layer": (_shorten, "its manifest says"),
    "no index": (lambda files: files.pop("index.json"), "no OCI layout"),
    "an old archive": (
        lambda files: files.update({"manifest.json": files.pop("index.json")}),
        "a Docker before 25",
    ),
    "an index that is no JSON": (lambda files: files.update({"index.json": b"{"}), "JSON"),
    "a deep index": (
        lambda files: files.update({"index.json": b'{"a":' * 100 + b"1" + b"}" * 100}),
        "nested too deeply",
    ),
    "a huge index": (
        lambda files: files.update({"index.json": b" " * 5_000_000}),
        "has more than 4194304 bytes",
    ),
    "a duplicate key": (
        lambda files: files.update({"index.json": b'{"manifests":[],"manifests":[]}'}),
        "duplicate key",
    ),
    "an invalid digest": (_root(digest="sha256:../../etc/passwd"), "invalid digest"),
    "another size": (_root(size=3), "its manifest says 3"),
    "a huge size": (_root(size=10**12), "expected 1 to"),
    "a type that is no manifest": (_root(mediaType="text/html"), "no manifest"),
    "an invalid name": (_root(annotations={"io.containerd.image.name": "A b"}), "invalid"),
    "a name for two manifests": (_index(_twice), "twice"),
    "another digest than its name": (
        _root(annotations={"io.containerd.image.name": "nginx@sha256:" + "a" * 64}),
        "its manifest is",
    ),
    "a foreign registry": (
        _root(annotations={"io.containerd.image.name": "ghcr.io/a/b:1"}),
        "ghcr.io is not an upstream of this mirror (docker.io)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_layout_is_refused_in_one_line_and_leaves_nothing(
    image: Image, other_folder: Path, tmp_path: Path, case: str
) -> None:
    change, words = WRONG[case]
    files = files_of(image)
    change(files)
    ended = await imported(other_folder, pack(tmp_path / "x.tar", files))
    assert ended.code in (1, 2), ended
    [line] = ended.err.splitlines()
    assert line.startswith("mirror: ")
    assert words in line
    left = {file for file in stored(other_folder) if len(file) != 64}
    assert not left  # no partial, nothing in quarantine
    index = DataFolder(other_folder)
    assert not index.index.exists() or not index.count("tag")


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


MEMBERS = {
    "a path that leads out": (_member("blobs/../../x"), "leads out"),
    "an absolute path": (_member("/etc/x"), "leads out"),
    "a symbolic link": (_member("blobs/sha256/a", tarfile.SYMTYPE, "/etc/shadow"), "symbolic link"),
    "a hard link": (_member("blobs/sha256/a", tarfile.LNKTYPE, "index.json"), "a hard link"),
    "a device": (_member("blobs/sha256/a", tarfile.BLKTYPE), "a device"),
    "a pipe": (_member("blobs/sha256/a", tarfile.FIFOTYPE), "a pipe"),
    "a sparse file": (_member("blobs/sha256/a", tarfile.GNUTYPE_SPARSE), "a sparse file"),
    "a name twice": (_member("index.json"), "twice"),
    "a name twice, written otherwise": (_member("./index.json"), "twice"),
}


@pytest.mark.parametrize("case", MEMBERS)
async def test_an_archive_with_an_odd_member_is_refused(
    image: Image, other_folder: Path, tmp_path: Path, case: str
) -> None:
    info, words = MEMBERS[case]
    archive = pack(tmp_path / "x.tar", files_of(image))
    with tarfile.open(archive, "a") as tar:
        tar.addfile(info)
    ended = await imported(other_folder, archive)
    assert (ended.code, words in ended.err) == (2, True), ended
    assert not stored(other_folder)


@pytest.mark.parametrize("size", [0o777777777777, 600, 100_000])
async def test_a_header_that_claims_much_costs_nothing(
    image: Image, other_folder: Path, tmp_path: Path, size: int
) -> None:
    info = _member("x" * 10, tarfile.GNUTYPE_LONGNAME if size != 600 else tarfile.REGTYPE)
    info.size = size
    archive = tmp_path / "x.tar"
    archive.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(512))
    ended = await imported(other_folder, archive)
    assert ended.code == 2
    assert "bytes" in ended.err or "cut off" in ended.err


async def test_what_is_no_layout_is_refused_in_one_line(
    image: Image, other_folder: Path, tmp_path: Path
) -> None:
    empty, packed, text = (tmp_path / each for each in ("empty", "x.tar.gz", "text"))
    os.mkfifo(tmp_path / "pipe")
    empty.write_bytes(b"")
    packed.write_bytes(b"\x1f\x8b" + bytes(2000))
    text.write_text("nothing of a tar archive" * 100)
    (tmp_path / "dir").mkdir()
    for name in ("empty", "x.tar.gz", "text", "dir", "missing", "pipe"):
        ended = await imported(other_folder, tmp_path / name)
        assert ended.code == 2
        [line] = ended.err.splitlines()
        assert name in line


async def test_links_in_a_folder_are_not_followed(
    image: Image, other_folder: Path, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    for name, data in files_of(image).items():
        (layout / name).parent.mkdir(parents=True, exist_ok=True)
        (layout / name).write_bytes(data)
    blob = layout / blob_path_of(image.layers[0].digest)
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    ended = await imported(other_folder, layout)
    assert (ended.code, "cannot be read" in ended.err) == (2, True)
    blob.unlink()
    os.mkfifo(blob)
    ended = await imported(other_folder, layout)
    assert (ended.code, "no regular file" in ended.err) == (2, True)


def blob_path_of(digest: str) -> str:
    """Return the path of content in a layout."""
    return f"blobs/{digest.replace(':', '/')}"


async def test_content_that_no_image_needs_is_not_taken(
    image: Image, other_folder: Path, tmp_path: Path
) -> None:
    extra = b"contraband" * 1000
    digest = hashlib.sha256(extra).hexdigest()
    layout = pack(tmp_path / "x.tar", files_of(image) | {f"blobs/sha256/{digest}": extra})
    assert (await imported(other_folder, layout)).code == 0
    assert stored(other_folder) == {each.digest[7:] for each in image.blobs} | {image.digest[7:]}


async def test_a_layout_gets_no_stored_content_by_naming_its_digest(
    hub: Hub, filled: Index, image: Image, folder: Path, tmp_path: Path
) -> None:
    files = files_of(image, "docker.io/library/thief:1")
    secret = image.layers[1].digest
    del files[blob_path_of(secret)]
    ended = await imported(folder, pack(tmp_path / "x.tar", files))
    assert (ended.code, f"lacks 1 of its blobs: {secret}" in ended.err) == (1, True)
    async with serving(folder, "--upstream", NOBODY) as command:
        url = await command.address()
        assert (await fetch(f"{url}/v2/library/thief/blobs/{secret}"))[0] == 503
        assert (await fetch(f"{url}/v2/library/nginx/blobs/{secret}"))[0] == 200


@BOTH
async def test_an_image_with_a_hole_does_not_replace_a_whole_one(
    hub: Hub, filled: Index, image: Image, folder: Path, tmp_path: Path, beside: bool
) -> None:
    broken = make_image("broken", [1000, 2000])
    files = files_of(broken, "docker.io/library/nginx:latest")
    del files[blob_path_of(broken.layers[1].digest)]
    async with daemon(folder, there=beside):
        ended = await imported(folder, pack(tmp_path / "x.tar", files))
    assert (ended.code, f"lacks 1 of its blobs: {broken.layers[1].digest}" in ended.err) == (
        1,
        True,
    )
    await is_pulled(folder, "library/nginx", "latest", image)


async def test_an_image_without_a_name_gets_one_by_name(
    image: Image, other_folder: Path, tmp_path: Path
) -> None:
    layout = pack(tmp_path / "x.tar", files_of(image, None))
    ended = await imported(other_folder, layout)
    assert (ended.code, "--name IMAGE names it" in ended.err) == (2, True)
    assert (await imported(other_folder, layout, "--name", "mine/app:2")).code == 0
    await is_pulled(other_folder, "mine/app", "2", image)


async def test_json_is_the_record(
    hub: Hub, filled: Index, folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.tar"
    ended = await do("export", "app:1", "--output", output, "--data-dir", folder, "--json")
    [image] = json.loads(ended.out)["images"]
    assert (image["name"], image["digest"]) == ("docker.io/library/app:1", filled.digest)
    assert (image["platforms"], image["missing"]) == (["linux/amd64"], ["linux/arm64"])
    ended = await imported(other_folder, output, "--json")
    [image] = json.loads(ended.out)["images"]
    assert (image["missing"], image["lacking"], image["reason"]) == (["linux/arm64"], [], "")


async def test_an_import_that_is_killed_leaves_a_mirror_that_takes_it_again(
    hub: Hub, other_folder: Path, tmp_path: Path
) -> None:
    image = make_image("large", [40_000_000])
    layout = pack(tmp_path / "x.tar", files_of(image))
    async with serving(other_folder, "--upstream", NOBODY) as mirror:
        await mirror.address()
        async with launched("import", layout, "--data-dir", other_folder) as command:
            await mirror.says("order: import")
            command.send(signal.SIGKILL)
            await command.ended()
        assert (await imported(other_folder, layout)).code == 0
        assert "Traceback" not in mirror.err
    await is_pulled(other_folder, "library/nginx", "1", image)


async def test_a_mirror_that_stops_while_it_imports_or_exports_leaves_nothing(
    hub: Hub, filled: Index, folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    image = make_image("large", [40_000_000])
    layout = pack(tmp_path / "x.tar", files_of(image))
    for where, words in (
        (other_folder, ("import", layout)),
        (folder, ("export", "app:1", "nginx", "--output", tmp_path / "a.tar")),
    ):
        async with serving(where, "--upstream", NOBODY) as mirror:
            await mirror.address()
            async with launched(*words, "--data-dir", where) as command:
                await mirror.says(f"order: {words[0]}")
                mirror.send(signal.SIGTERM)
                ended = await command.ended(30)
                stopped = await mirror.ended(30)
        assert stopped.code == 0
        assert "Traceback" not in stopped.err + ended.err
        if ended.code:  # otherwise it was done before the stop
            [line] = ended.err.splitlines()
            assert line.startswith("mirror: ")
            assert not left_by(tmp_path)
        assert not {file for file in stored(where) if len(file) != 64}
