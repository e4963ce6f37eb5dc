"""Evaluation of, and prediction with, finished runs, from their directories alone.

Read ``load`` first (what is trusted of a directory, and what is not), then ``stream`` and ``classifier`` (prediction),
``evaluation_rows`` and ``evaluate``, and ``average`` (several runs as one); ``texts`` reads the input of predictions
and writes them.
"""
