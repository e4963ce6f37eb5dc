"""What is left of a documentation string: prose without names."""

from __future__ import annotations

from textwrap import dedent

import pytest

from lx.data.sources.docstrings.masking import mask_names, name_mask
from lx.data.sources.docstrings.prose import prose

CASES = {
    "paragraphs": ("One line.\n\n   Another   one.\n", "One line. Another one."),
    "doctest": ("Adds.\n\n>>> add(1, 2)\n3\n>>> add(2,\n...     2)\n4\n\nAnd more.", "Adds. And more."),
    "literal block": ("Use it::\n\n    x = f(1)\n\n    y = 2\n\nThen go on.", "Use it: Then go on."),
    "fence": ("Use it\n```python\nx = 1\n```\nand go on.", "Use it and go on."),
    "code directive": ("Before.\n\n.. code-block:: python\n   :linenos:\n\n   x = 1\n\nAfter.", "Before. After."),
    "spoken directive": (
        "Before.\n\n.. note:: Mind this.\n   It matters.\n\nAfter.",
        "Before. Mind this. It matters. After.",
    ),
    "version directive": ("Before.\n\n.. versionadded:: 2.1\n   Was not there.\n\nAfter.", "Before. After."),
    "numpy sections": (
        """Sum of it.

        Parameters
        ----------
        a : array_like
            The numbers to add.
        axis, out : int, optional
            Along which.

        Returns
        -------
        float
            The sum.
        """,
        "Sum of it. The numbers to add. Along which. float The sum.",
    ),
    "google sections": (
        "Sum of it.\n\nArgs:\n    a (list of int): The numbers.\n    axis: Along which.\n\nReturns:\n    The sum.\n",
        "Sum of it. The numbers. Along which. The sum.",
    ),
    "field lists": (
        "Sum of it.\n\n:param int a: The number.\n:type a: int\n:return: The sum.\n:rtype: int",
        "Sum of it. The number. The sum.",
    ),
    "roles and links": (
        "See :class:`~a.B`, :func:`f`, `the guide <https://x.org>`_, [that](http://y.org) and https://z.org/q?a=1 too.",
        "See a.B , f , the guide , that and too.",
    ),
    "formulas": ("The norm :math:`\\|x\\|_2` of $x + y$ is large.", "The norm of is large."),
    "emphasis": ("A **bold** and *slanted* ``code`` in 2 * 3 [1]_.", "A bold and slanted code in 2 * 3 ."),
    "bullets": ("Either\n\n- one thing or\n* the other\n1. or a third\n", "Either one thing or the other or a third"),
    "tables": ("Codes:\n\n===== =====\nA     B\n===== =====\n| x | y |\n+---+---+\n\nEnd.", "Codes: End."),
    "signature": ("f(a, b=1) -> int\n\nAdds them.", "Adds them."),
    "nothing": (">>> f()\n1", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_prose(case: str) -> None:
    docstring, expected = CASES[case]
    assert prose(dedent(docstring)) == expected
    assert prose("\n    ".join(["", *dedent(docstring).splitlines()])) == expected  # as it stands inside a function


LIBRARIES = ["python", "torch", "numpy", "pandas", "networkx", "torchmetrics", "huggingface_hub", "datasets", "wandb"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A PyTorch tensor", "A LIB tensor"),
        ("torch.nn.functional.relu is", "LIB relu is"),
        ("Uses torch. Then more.", "Uses LIB. Then more."),
        ("import numpy as np and np.array", "import LIB as LIB and LIB array"),
        ("NumPy, pandas; NX", "LIB, LIB; LIB"),
        ("is_torch_tensor and __torch_function__", "LIB and LIB"),
        ("to_pandas(x)", "LIB(x)"),
        ("CPython's own", "LIB's own"),
        ("the Hugging Face Hub", "the LIB Hub"),
        ("Weights & Biases or W&B", "LIB or LIB"),
        ("datasets and a dataset, subdatasets", "LIB and a dataset, subdatasets"),
        ("pd.DataFrame, pdf, input, snp", "LIB DataFrame, pdf, input, snp"),
        ("an ordinary sentence.", "an ordinary sentence."),
    ],
)
def test_masking(text: str, expected: str) -> None:
    assert mask_names(text, name_mask(LIBRARIES)) == expected


def test_only_the_named_libraries_are_masked() -> None:
    assert mask_names("torch and sympy", name_mask(["sympy"])) == "torch and LIB"
