"""The networks, in plain torch: no Lightning, no Hydra, no kernels.

Read ``classifier`` first, which puts the parts together, then ``encoder``, ``block`` and ``attention``; ``position``,
``norm``, ``feedforward`` and ``pooling`` hold the variants to choose from, ``init`` all initial values. ``bag`` and
``pretrained`` are other networks, ``ensemble`` makes one of several, and ``vectors`` fills word tables from files.
"""
