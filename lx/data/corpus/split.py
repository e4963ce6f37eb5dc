"""Stratified validation split of the train rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_split(
    groups: NDArray[np.int64], hashes: NDArray[np.uint64], *, fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Choose the rows of a validation split, of each group of labels a share.

    Of each group with n rows, ``round(fraction * n)`` go to validation, at least one and at most n - 1;
    a group of one row stays in train. Rows with the same text go to the same side, and a text that stands
    in several groups stays in train; only where such repeats leave no other choice is a group's share
    smaller.

    Args:
        groups: Of each row, equal for labels that count as the same, such as a class.
        hashes: Hash of each row's text.
        fraction: Share of the rows, above 0 and below 1.
        seed: Decides which rows are taken.

    Returns:
        True for each row of the validation split.
    """
    rng = np.random.default_rng(seed)
    _, first, text_of, sizes = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    group_of_text = groups[first]
    mixed = np.zeros(len(first), np.bool_)
    mixed[text_of[groups != group_of_text[text_of]]] = True
    taken = np.zeros(len(first), np.bool_)
    for group, count in zip(*np.unique(groups, return_counts=True), strict=True):
        quota = min(max(round(fraction * count), 1), count - 1)
        # Texts come in the order of their first row, so that the split does not depend on the hash.
        texts = np.flatnonzero((group_of_text == group) & ~mixed)
        texts = rng.permutation(texts[np.argsort(first[texts])])
        fits = np.cumsum(sizes[texts]) <= quota
        taken[texts[fits]] = True
        left = quota - int(sizes[texts[fits]].sum())
        taken[texts[~fits & (sizes[texts] == 1)][:left]] = True
    return taken[text_of]
