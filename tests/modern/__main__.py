"""Build the clients that are not kept yet: `python -m tests.modern`; exits 1 if a build fails."""

import sys

from tests.modern.build import build_all

sys.exit(1 if build_all() else 0)
