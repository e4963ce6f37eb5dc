"""From a data set to padded batches of token ids.

Read ``datamodule`` first: it goes from a source (``sources``: files, the Hub, docstrings) to a corpus (``corpus``:
cleaned rows, encoded labels, splits, a report), to a tokenizer and a table of token ids (``tokens``), to batches. Then
``plan``, which decides which examples make which batch on which rank, and ``batches``, which pads them. ``expert`` fits
the linear expert beside a network. What a label is stays with the task: ``corpus.labels`` is the interface.
"""
