"""Where a run's numbers go: CSV, Weights & Biases, TensorBoard."""
