"""Training of one run, in one process a rank.

Start with ``train``, which reads as a list of what happens; then ``builders`` (data, task, network and module from
their config nodes), ``module`` (the LightningModule: one optimizer step), ``trainer`` (Lightning's Trainer with the
callbacks of a run), and ``callbacks`` as needed.
"""
