"""Sweeps: many runs from one command, which survive interruptions and rank by validation alone.

Read ``commands`` (run, resume), ``plan`` and ``space`` (what varies, checked before anything is written),
``runner`` (begins trials and takes in how they end), ``scheduler`` and ``slots`` (the loop that starts runs where
there is room), ``study`` and ``journal`` (which trial comes next, in Optuna's format), then ``trials``, ``leaderboard``
and ``view`` (results, read from the run directories, and what a person sees of them).
"""
