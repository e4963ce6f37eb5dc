"""Cleaned, labelled, split texts on disk, built once for each source.

Read ``corpus`` first, then ``builder``, which calls the others: ``clean`` (rows), ``labels`` (the interface to the
task), ``split`` (validation), ``storage`` (Arrow files) and ``report``.
"""
