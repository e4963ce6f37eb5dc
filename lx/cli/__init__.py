"""The command line.

Start with ``main``: it holds the one list of verbs, from which help, suggestions and completion follow. Each verb is a
file of its own with ``run(arguments)``, imported when the verb is called; it reads its arguments with ``arguments`` and
calls one function of a lower room. Nothing here imports torch at the top of a file, so that ``--help`` and
``--cfg job`` answer at once.
"""
