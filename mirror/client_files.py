"""Client files: a client's configuration, printed or written into its folder."""

from __future__ import annotations

import ssl
from pathlib import Path

from mirror.client_config import Files
from mirror.pem import reason
from mirror.settings import ConfigurationError


def ca(file: Path) -> str:
    """Read who signed the mirror's certificate; raises ConfigurationError."""
    try:
        text = file.read_text("ascii")
        ssl.create_default_context(cadata=text)
    except (OSError, ValueError) as error:  # SSLError and UnicodeError are among these
        wanted = reason(error, "certificates in PEM")
        raise ConfigurationError(f"--ca is {str(file)!r}: {wanted}") from None
    return text


def show(files: Files) -> None:
    """Print them, each with its path where there are several."""
    heads = (f"# {name}\n" if len(files) > 1 else "" for name in files)
    print("\n".join(map(str.__add__, heads, files.values())), end="")


def write(files: Files, folder: Path, *, force: bool) -> None:
    """Write all of them or none, and print where; those of others are replaced by `force` only.

    Raises ConfigurationError.
    """
    places = {folder / name: text for name, text in files.items()}
    try:
        for place, text in places.items():
            if not force and place.exists() and place.read_text("utf-8") != text:
                raise ConfigurationError(
                    f"{place} is there and says otherwise; --force replaces it"
                )
        for place, text in places.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, "utf-8")
            print(place)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{folder}: cannot be written: {error}") from None
