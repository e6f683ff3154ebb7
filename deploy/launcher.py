#!/usr/bin/env -S python3 -I
"""The program of the Debian package and of the image: its packages lie in `lib` beside `bin`.

Isolated (`-I`): neither PYTHONPATH nor the folder that root stands in can put code into it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from mirror.cli import main

sys.exit(main())
