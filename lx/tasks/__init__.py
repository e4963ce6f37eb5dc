"""Tasks: how each reads labels, computes loss and metrics, and predicts.

Read ``base`` first, the interface of every task, then ``classification``, and ``calibration`` for how its probabilities
come about. A new task is one file here and one in ``conf/task``.
"""
