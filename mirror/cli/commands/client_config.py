"""`mirror client-config`: a client's configuration files, printed or written into its folder."""

from __future__ import annotations

import argparse
import os
import shutil
import ssl
from pathlib import Path

from mirror.cli.client_url import url_of
from mirror.cli.key_flags import add_keys, given
from mirror.client_config.clients import CLIENTS, TRUST_REGISTRIES, files
from mirror.client_config.endpoint import ClientEndpoint, Files
from mirror.settings import ConfigurationError, load, parse_origin
from mirror.util.pem import reason


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    command.epilog = "The flags of `mirror serve` are accepted, too."
    clients = list(CLIENTS)
    command.add_argument("client", metavar="CLIENT", choices=clients, help=", ".join(clients))
    command.add_argument(
        "--url",
        type=_origin,
        help="the address of the mirror for clients, if it is not `listen`",
    )
    command.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="the CA of the mirror's certificate, for clients that do not know it",
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="the folder to write the files into; without it, they are printed",
    )
    command.add_argument(
        "--only", action="store_true", help="have clients use the mirror only, without fallback"
    )
    command.add_argument("--force", action="store_true", help="replace existing files")
    add_keys(command, shown=False)
    command.usage = f"{command.prog} CLIENT [--output DIR] [--url URL] [--KEY VALUE ...]"


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code. Raises ConfigurationError."""
    settings = load(given(options), options.config)
    url = options.url or url_of(settings, settings.listen)
    own = {
        name: _ca(f"upstreams.{name}.ca_file", each.ca_file)
        for name, each in settings.upstreams.items()
        if each.ca_file and options.client in TRUST_REGISTRIES
    }
    ca = _ca("--ca", options.ca) if options.ca else ""
    endpoint = ClientEndpoint(url, ca, options.only, own)
    written = files(options.client, endpoint, settings)
    if options.output is None:
        _show(written)
    else:
        _write(written, options.output, force=options.force)
    return 0


def _origin(text: str) -> str:
    try:
        return parse_origin(text)
    except ValueError:
        wanted = "expected http://host[:port] or https://host[:port], without a path"
        raise argparse.ArgumentTypeError(f"{text!r}: {wanted}") from None


def _ca(key: str, file: Path) -> str:
    """Read the certificates of a CA; raises ConfigurationError."""
    try:
        text = file.read_text("ascii")
        ssl.create_default_context(cadata=text)
    except (OSError, ValueError) as error:  # SSLError and UnicodeError are among these
        wanted = reason(error, "certificates in PEM")
        raise ConfigurationError(f"{key} is {str(file)!r}: {wanted}") from None
    return text


def _show(files: Files) -> None:
    """Print the files, each with its path if there are several."""
    heads = (f"# {name}\n" if len(files) > 1 else "" for name in files)
    print("\n".join(map(str.__add__, heads, files.values())), end="")


def _write(files: Files, folder: Path, *, force: bool) -> None:
    """Write all files or none, and print their paths; other files are replaced with `force` only.

    Raises ConfigurationError.
    """
    contents = {folder / name: text for name, text in files.items()}
    try:
        for file, text in contents.items():
            if not force and file.exists() and file.read_text("utf-8") != text:
                raise ConfigurationError(f"{file} exists with other contents; --force replaces it")
        _replace(contents)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{folder}: cannot be written: {error}") from None


def _replace(contents: dict[Path, str]) -> None:
    """Write files whole, or none: half a file harms a client more than none; raises OSError."""
    made: dict[Path, Path] = {}
    try:
        for file, text in contents.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            real = file.resolve()
            made[file] = new = real.with_name(f".{real.name}.{os.getpid()}")
            new.write_text(text, "utf-8")
            if real.exists():
                shutil.copymode(real, new)
        for file, new in made.items():
            new.replace(file.resolve())
            print(file)
    finally:
        for new in made.values():
            new.unlink(missing_ok=True)
