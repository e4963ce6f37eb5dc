"""Evaluation of, and prediction with, a finished run, from its directory alone.

Read ``load`` first (what is trusted of a directory, and what is not), then ``classifier`` and ``evaluate``; ``texts``
reads the input of predictions and writes them.
"""
