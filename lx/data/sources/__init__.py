"""Where labelled texts come from. Read ``base`` (the interface) first, then ``files``, its ``readers`` and ``rows``."""
