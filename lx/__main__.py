"""``python -m lx`` is ``lx``."""

import sys

if not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))  # the working directory: a file random.py there would hide Python's own

from lx.cli.main import main
from lx.system.processes import exit_process

exit_process(main())
