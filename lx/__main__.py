"""``python -m lx`` is ``lx``."""

import sys

from lx.cli import main

sys.exit(main())
