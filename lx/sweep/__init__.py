"""Sweeps: many runs from one command, which survive interruptions and rank by validation alone.

Read ``commands`` first (run, resume, work), then ``plan``, ``space`` and ``combinations`` (what varies, checked before
anything is written) and ``record`` (``sweep.json``). ``state`` reads how the trials stand; ``runner`` chooses runs and
records how they ended; ``claims`` keep two workers from the same run. ``scheduler``, ``slots`` and ``starter`` start
runs where there is room. ``study`` and ``journal`` choose the next trial, in Optuna's format. ``trials``,
``leaderboard``, ``tables`` and ``view`` read results from the run directories and show them.
"""
