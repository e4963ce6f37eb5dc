"""``python -m lx`` is ``lx``."""

import sys

from lx.cli.main import main

sys.exit(main())
