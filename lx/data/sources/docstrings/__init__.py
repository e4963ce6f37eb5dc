"""A corpus that is on every machine: the documentation strings of installed libraries. Read ``source`` first."""
