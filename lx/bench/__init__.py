"""Measure training speed: ``benchmark`` trains in rounds, ``timers`` time it, ``report`` shows what came out."""
