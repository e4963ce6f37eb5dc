"""The tensors of a linear expert, which may come from a stranger."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lx.errors import LxError
from lx.kernels.ngrams import HASH_BITS
from lx.linear.ngrams import OVERLAPS_PER_PAIR, are_orders
from lx.linear.targets import KINDS

LARGEST_WEIGHT = 1e6  # far beyond any fitted one; sums of such weights stay finite in float32
LARGEST_IDF = 100.0

_OLDER_OVERLAPS = (0, 2)  # of a pair, in the experts of older versions


def check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors with which an expert would fail, read memory that is not its own, or compute no probabilities.

    Raises:
        LxError: Says what is wrong.
    """
    (num_ngrams,), (num_features, num_columns) = _shape(tensors.get("hashes"), 1), _shape(tensors.get("weights"), 2)
    expected: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "kind": (torch.int64, ()),
        "orders": (torch.int64, (2, 2)),
        "texts_per_row": (torch.int64, ()),
        "hashes": (torch.int64, (num_ngrams,)),
        "idf": (torch.float32, (num_ngrams,)),
        "weights": (torch.float32, (num_features, num_columns)),
        "bias": (torch.float32, (num_columns,)),
    }
    if tensors.keys() != expected.keys():
        raise LxError(f"a linear expert has the tensors {', '.join(expected)}, not {', '.join(map(str, tensors))}")
    for name, (dtype, shape) in expected.items():
        tensor = tensors[name]
        if not _is_plain(tensor) or tensor.dtype != dtype or tensor.shape != shape:
            raise LxError(f"{name} of the linear expert must be a {dtype} tensor of the shape {list(shape)}")
    hashes, idf = tensors["hashes"], tensors["idf"]
    is_of_pairs = tensors["texts_per_row"].item() == 2
    if is_of_pairs and num_features - num_ngrams in _OLDER_OVERLAPS:
        raise LxError("this linear expert of pairs of texts was made by an older lx, and has to be trained again")
    num_overlaps = OVERLAPS_PER_PAIR if is_of_pairs else 0
    wrong = {
        "kind": tensors["kind"].item() not in range(len(KINDS)),
        "orders": not all(map(are_orders, tensors["orders"].tolist())),
        "texts_per_row": tensors["texts_per_row"].item() not in (1, 2),
        "hashes": bool((hashes[1:] <= hashes[:-1]).any() or (hashes < 0).any() or (hashes >= 1 << HASH_BITS).any()),
        "idf": not bool(((idf > 0) & (idf <= LARGEST_IDF)).all()),
        "weights": num_features != num_ngrams + num_overlaps
        or not bool((tensors["weights"].abs() <= LARGEST_WEIGHT).all()),
        "bias": num_columns == 0 or not bool((tensors["bias"].abs() <= LARGEST_WEIGHT).all()),
    }
    if names := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise LxError(f"{names[0]} of the linear expert: a wrong number of numbers, or some out of order or range")


def _shape(tensor: object, dims: int) -> tuple[int, ...]:
    return tuple(tensor.shape) if isinstance(tensor, Tensor) and tensor.dim() == dims else (0,) * dims


def _is_plain(tensor: object) -> bool:
    return type(tensor) is Tensor and tensor.layout == torch.strided and tensor.device.type == "cpu"
