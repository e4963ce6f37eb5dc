"""What people look at: ``tables`` for a terminal, by rich, and the HTML files of ``lx report``.

Of a report read ``page`` (what a page consists of, and its file), ``run_page`` (the report of one run), ``drawing``
(how every figure is drawn), then the figures: ``curves``, ``confusion``, ``outcomes``, ``sweep_figures``.
"""
