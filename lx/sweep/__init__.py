"""Sweeps: many runs from one command, which survive interruptions and rank by validation alone.

Read ``space`` (what varies), ``trials`` (a trial's directories and results), ``study`` (which trial comes next, kept in an
Optuna journal), ``scheduler`` (the loop that starts runs and waits for them), ``leaderboard`` (what a person sees), and
``sweep``, which puts them together.
"""
