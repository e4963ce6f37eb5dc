"""Cuts a validation split from train."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cut_validation(
    labels: NDArray[np.int32], hashes: NDArray[np.uint64], *, fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Choose the rows of a stratified validation split.

    Of each class with n rows, ``round(fraction * n)`` go to validation, at least one and at most n - 1;
    a class of one row stays in train. Rows with the same text go to the same side, and a text that stands
    under several labels stays in train; only where such repeats leave no other choice is a class's share
    smaller.

    Args:
        labels: Class of each row.
        hashes: Hash of each row's text.
        fraction: Share of the rows, above 0 and below 1.
        seed: Which rows are taken.

    Returns:
        True for each row of the validation split.
    """
    rng = np.random.default_rng(seed)
    _, first, group_of, sizes = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    group_labels = labels[first]
    mixed = np.zeros(len(first), np.bool_)
    mixed[group_of[labels != group_labels[group_of]]] = True
    taken = np.zeros(len(first), np.bool_)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        quota = min(max(round(fraction * count), 1), count - 1)
        # Groups come in the order of their first row, so that the cut does not depend on the hash.
        groups = np.flatnonzero((group_labels == label) & ~mixed)
        groups = rng.permutation(groups[np.argsort(first[groups])])
        whole = np.cumsum(sizes[groups]) <= quota
        taken[groups[whole]] = True
        left = quota - int(sizes[groups[whole]].sum())
        taken[groups[~whole & (sizes[groups] == 1)][:left]] = True
    return taken[group_of]
