"""``python -m lx.worker RUN`` trains one rank of a run: see :mod:`lx.training.worker`."""

from lx.system.gc import freeze_after_imports
from lx.system.processes import exit_process

with freeze_after_imports(__name__ == "__main__"):
    from lx.training.worker import main

if __name__ == "__main__":
    exit_process(main())
