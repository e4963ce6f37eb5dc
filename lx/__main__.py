"""``python -m lx`` is ``lx``."""

from lx.cli.main import main
from lx.system.processes import exit_process

exit_process(main())
