"""Configuration: composed by Hydra from ``conf/``, checked, and turned into objects.

Read ``compose`` first: where settings come from, and in which order. ``grammar`` reads what people type. ``validate``
then checks the composed settings against ``schema`` (types) and ``ranges`` (values), ``objective`` the metric's
direction, ``conflicts`` the sources they came from, and ``messages`` puts Hydra's errors in plain words.
``instantiate`` builds objects from config nodes; from the configuration of a run directory, which may come from a
stranger, it builds only what lx knows. Nothing here imports torch.
"""
