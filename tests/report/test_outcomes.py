"""What the figures of a run's page are computed from."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from lx.report.outcomes import error_figure
from lx.run.predictions import SplitPredictions


def test_lengths_between_which_no_text_lies_make_no_group() -> None:
    """The quantiles of few different lengths lie between them too; dividing by no texts would be a warning."""
    lengths, ones = np.array([3, 10], np.int32), np.ones(2)
    split = SplitPredictions(
        np.arange(2), ones, np.ones((2, 1), np.float32), np.ones(2, np.float32), np.array([5.0, 7.0]), ones, texts=""
    )
    assert "5 for the shortest texts, 7 for the longest" in error_figure(lengths, split, "mse").description
