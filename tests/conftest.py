"""Puts this directory on the import path, for :mod:`processes`."""
