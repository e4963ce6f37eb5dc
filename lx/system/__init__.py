"""What lx needs of the machine and the operating system, each file by itself: nothing here is about training.

`processes` and `signals` (start, stop, report), `files` and `cache` (atomic writes, where caches are), `hardware`
(device, precision, threads), `output`, `logging`, `console` and `progress` (what a person sees), `gc` and `git`,
`private_api` (undocumented parts of Lightning). Nothing here imports Lightning at import time, so that `lx --help` is
fast.
"""
