"""`python -m mirror` is `mirror`."""

import sys

from mirror.cli import main

sys.exit(main())
