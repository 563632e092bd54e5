"""From a job's vectors to its answer: numbers that JSON carries well, and a .npy file when there are many."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.embedding import EmbeddingInput
from schemas.events import EngineEvent, Finished, Produced

NPY_NAME = "embeddings.npy"
NPY_TYPE = "application/x-npy"
NPY_NUMBERS = 16_384
"""From so many numbers on the vectors come as a .npy file as well."""
DECIMALS = 8
"""For numbers below one this is what single precision holds, in half the characters of double precision."""


def answer(
    vectors: Sequence[NDArray[np.float32] | None], prompt_tokens: int, given: EmbeddingInput
) -> list[EngineEvent]:
    """Return the last events of a job."""
    matrix = shape(np.stack([vector for vector in vectors if vector is not None]), given)
    rounded = np.round(matrix.astype(np.float64), DECIMALS)
    is_small = matrix.size < NPY_NUMBERS
    # A large one stays an array: as Python's numbers it takes several times as much, in a million pieces.
    output = {"embeddings": rounded.tolist() if is_small else rounded, "dimensions": matrix.shape[1]}
    finished = Finished(output, usage={"prompt_tokens": prompt_tokens})
    if is_small:
        return [finished]
    return [Produced(NPY_NAME, NPY_TYPE, npy(matrix)), finished]


def shape(matrix: NDArray[np.float32], given: EmbeddingInput) -> NDArray[np.float32]:
    """Shorten and normalize as asked, in this order."""
    matrix = matrix[:, : given.dimensions]
    if not given.normalize:
        return matrix
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    normalized: NDArray[np.float32] = matrix / np.maximum(lengths, np.finfo(np.float32).tiny)
    return normalized


def npy(matrix: NDArray[np.float32]) -> bytes:
    """Return a matrix as the bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, matrix, allow_pickle=False)
    return file.getvalue()
