"""Record the numbers of a run: CSV, Weights & Biases, TensorBoard.

``loggers`` builds what ``cfg.logger`` names from a ``context``, the facts about the run; then a file for each tracker.
"""
