"""The rights of the command's caller, which an order without a daemon may have given up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


class Caller:
    """The user that the command was given by: without a mirror, root acts as the folder's owner.

    A layout is read and written with this user's rights. The change is for the whole process, so
    nothing else may open files meanwhile.
    """

    def __init__(self) -> None:
        self._user, self._group = os.geteuid(), os.getegid()

    @contextmanager
    def rights(self) -> Iterator[None]:
        """Act as the caller within the context."""
        user, group = os.geteuid(), os.getegid()
        if (user, group) == (self._user, self._group):
            yield
            return
        os.seteuid(self._user)
        os.setegid(self._group)
        try:
            yield
        finally:
            os.setegid(group)
            os.seteuid(user)
