"""Record the numbers of a run: CSV, Weights & Biases, TensorBoard, MLflow.

Read ``loggers`` first, which builds what ``cfg.logger`` names, then ``context``: the facts about a run, and what a
tracker may offer. Then there is a file for each tracker; ``wandb_...`` are the parts of that of W&B.
"""
