"""Plain text: words of registries and clients, made safe for a terminal, a page and a log."""

from __future__ import annotations

_STRANGE = "\N{REPLACEMENT CHARACTER}"


def plain(text: str, most: int) -> str:
    """Return a text on one line, without control characters, of at most `most` characters.

    White space becomes single spaces. Characters that are not printable are replaced, among them
    marks that change the direction of writing, and lone surrogates. A cut text ends in an ellipsis.
    """
    cut = text[: 4 * most]  # a text of megabytes is not looked at
    words = " ".join(cut.split())
    shown = "".join(each if each.isprintable() else _STRANGE for each in words)
    return shown if len(shown) <= most and len(cut) == len(text) else shown[: most - 1] + "…"
