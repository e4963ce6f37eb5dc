"""Measure training speed: ``benchmark`` trains in rounds and reports; ``timers`` are the callbacks that time it."""
