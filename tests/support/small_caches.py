"""Caches smaller than an operator may set: allowed in the process that imports this.

`python -m tests.support.small_caches` is `mirror` with it.
"""

from __future__ import annotations

import sys

from mirror.cli import main
from mirror.settings import measures

measures.SMALLEST = 0

if __name__ == "__main__":
    sys.exit(main())
