"""Callbacks of every run: metrics, progress, checkpoints, stopping, resumption, and the average of the weights."""
