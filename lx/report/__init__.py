"""What people look at: ``tables`` for a terminal, by rich, and the HTML files of ``lx report`` and ``lx explain``.

Of a report read ``page`` (what a page consists of, and its file), ``run_page`` (the report of one run), ``drawing``
(how every figure is drawn), then the figures: ``curves``, ``confusion``, ``outcomes``, ``sweep_figures``.

Of a comparison read ``contenders`` (what is compared), ``statistics`` (whether a difference is real), ``compare``,
which joins the two, and ``comparison_tables``; of an explanation ``explanation``, then its page and its terminal.
"""
