"""Sweeps: many runs from one command, which survive interruptions and rank by validation alone.

Read ``commands`` (run, resume, work), ``plan``, ``space`` and ``combinations`` (what varies, checked before anything is
written) and ``record`` (what is kept of it); then ``state`` (how the sweep stands) and ``runner``, which chooses runs
and takes in how they end, beside other workers by ``claims``; ``scheduler``, ``slots`` and ``starter`` (the loop that
starts runs where there is room); ``study`` and ``journal`` (which trial comes next, in Optuna's format); last
``trials``, ``leaderboard``, ``tables`` and ``view`` (results, read from the run directories, and what a person sees).
"""
