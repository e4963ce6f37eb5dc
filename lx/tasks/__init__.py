"""What is learned: how labels are read, the loss, the metrics, the predictions.

Read ``base`` first, the interface of every task, then ``classification``, and ``calibration`` for how its probabilities
come about. A new task is one file here and one in ``conf/task``.
"""
