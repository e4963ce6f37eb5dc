"""What moves the weights: parameter groups, optimizers, learning-rate schedules."""
