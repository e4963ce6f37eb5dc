"""Where labelled texts come from.

Read ``base`` (the interface) first, then ``files``, its ``readers`` (one file a format) and ``content``, through which
every file that a person names is opened.
"""
