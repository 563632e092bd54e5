"""Many adapters in one batch: every image has changes of its own to what the layers do.

All changes that an image uses become one pair of matrices for each layer: downs side by side, ups side by side with
their strengths in them. So a batch knows no difference between no adapter, one, several, or one at two strengths, and
whatever the batch, an image's own changes are all that reaches it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from workers.engines.lora import Adapter, Change

MERGED_BYTES = 64 * 2**20
"""Weights of this size in all are copied for each image, which costs no time; beside larger ones changes are added."""

Uses = Sequence[tuple[Adapter, float]]
"""The adapters of one image with their strengths."""


class Mixture:
    """The changes of a batch's images, while it is drawn."""

    def __init__(self, pipeline: Any, images: Sequence[Uses], merged_bytes: int = MERGED_BYTES) -> None:
        self._pipeline = pipeline
        self._images = list(images)
        self._merged_bytes = merged_bytes
        self._layers: list[Changed] = []

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the layers do what the images want, for as long as the context lasts."""
        keys = {key for uses in self._images for adapter, _ in uses for key in adapter.changes}
        found = {key: getattr(self._pipeline, key[0]).get_submodule(key[1]) for key in keys}
        size = sum(layer.weight.nbytes for layer in found.values()) * len(self._images)
        is_small = size <= self._merged_bytes and all(layer.weight.is_cpu for layer in found.values())
        with ExitStack() as stack:
            for key, layer in found.items():
                changed = (Merged if is_small else Added)(layer, [_changes(uses, key) for uses in self._images])
                self._layers.append(changed)
                stack.callback(changed.apply())
            yield

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out the images of all other rows from now on."""
        for layer in self._layers:
            layer.keep(rows)


class Changed(ABC):
    """A layer with what a batch changes in it: one pair for everybody, or a pair for each image."""

    def __init__(self, layer: nn.Module, images: Sequence[Sequence[tuple[Change, float]]]) -> None:
        like = next(change for uses in images for change, _ in uses)
        is_same = all(_same(uses, images[0]) for uses in images)
        pairs = [_join(uses, like) for uses in (images[:1] if is_same else images)]
        widest = max(len(down) for down, _ in pairs)
        self._layer = layer
        self._is_convolution = isinstance(layer, nn.Conv2d)
        self._down = torch.stack([_pad(down, 0, widest) for down, _ in pairs])
        self._up = torch.stack([_pad(up.flatten(1), 1, widest) for _, up in pairs])

    @abstractmethod
    def apply(self) -> Any:
        """Change the layer; return what is called to undo it."""

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all other rows."""
        if len(self._down) > 1:
            self._down, self._up = self._down[list(rows)], self._up[list(rows)]

    def _convolve(self, given: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Convolve each image with weights of its own: in one call, as groups of channels side by side."""
        layer, count = self._layer, len(weights)
        form = (layer.stride, layer.padding, layer.dilation)
        if count == 1:
            return functional.conv2d(given, weights[0], bias, *form)
        wide = given.reshape(-1, count * given.shape[1], *given.shape[2:])
        biases = None if bias is None else bias.repeat(count)
        drawn = functional.conv2d(wide, weights.flatten(0, 1), biases, *form, groups=count)
        return drawn.reshape(len(given), -1, *drawn.shape[2:])


class Added(Changed):
    """Adds up(down(input)) to the layer's output."""

    def apply(self) -> Any:
        """Hook into the layer."""
        return self._layer.register_forward_hook(self._add).remove

    def _add(self, _layer: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        if self._is_convolution:
            narrow = self._convolve(given[0], self._down, None)
            return output + torch.matmul(_each(self._up, len(output)), narrow.flatten(2)).view_as(output)
        rows = given[0].reshape(len(output), -1, given[0].shape[-1])
        narrow = torch.matmul(rows, _each(self._down, len(output)).mT)
        return output + torch.matmul(narrow, _each(self._up, len(output)).mT).view_as(output)


class Merged(Changed):
    """Has a copy of the layer's weights for each image, with the changes in it."""

    def __init__(self, layer: nn.Module, images: Sequence[Sequence[tuple[Change, float]]]) -> None:
        super().__init__(layer, images)
        changes = torch.bmm(self._up, self._down.flatten(2))
        self._weights = changes.view(len(changes), *layer.weight.shape).add_(layer.weight)
        self._rows = self._weights

    def apply(self) -> Any:
        """Compute in the layer's place."""
        self._layer.forward = self._compute
        return lambda: delattr(self._layer, "forward")

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all other rows."""
        if len(self._weights) > 1:
            self._weights = self._rows = self._weights[list(rows)]

    def _compute(self, given: torch.Tensor) -> torch.Tensor:
        bias = self._layer.bias
        if self._is_convolution:
            return self._convolve(given, self._weights, bias)
        if len(self._weights) == 1:
            return functional.linear(given, self._weights[0], bias)
        if len(self._rows) != len(given):
            self._rows = _each(self._weights, len(given))
        rows, weights = given.reshape(len(given), -1, given.shape[-1]), self._rows.mT
        drawn = torch.bmm(rows, weights) if bias is None else torch.baddbmm(bias, rows, weights)
        return drawn.reshape(*given.shape[:-1], -1)


def _each(matrices: torch.Tensor, rows: int) -> torch.Tensor:
    """Return a matrix for each row, where they are not one for all: with guidance the batch is there twice."""
    return matrices if len(matrices) in (1, rows) else matrices.repeat(rows // len(matrices), 1, 1)


def _changes(uses: Uses, key: tuple[str, str]) -> list[tuple[Change, float]]:
    return [(adapter.changes[key], strength) for adapter, strength in uses if key in adapter.changes]


def _same(one: Sequence[tuple[Change, float]], other: Sequence[tuple[Change, float]]) -> bool:
    return len(one) == len(other) and all(a is b and x == y for (a, x), (b, y) in zip(one, other, strict=True))


def _join(uses: Sequence[tuple[Change, float]], like: Change) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one pair that does what all of them do together; nothing is a pair of rank 0."""
    if not uses:
        return like.down[:0], like.up[:, :0]
    if len(uses) == 1:
        change, strength = uses[0]
        return change.down, change.up if strength == 1 else change.up * strength
    downs = [change.down for change, _ in uses]
    ups = [change.up * strength for change, strength in uses]
    return torch.cat(downs), torch.cat(ups, 1)


def _pad(matrix: torch.Tensor, axis: int, width: int) -> torch.Tensor:
    """Widen a matrix with zeros, which add nothing."""
    missing = width - matrix.shape[axis]
    shape = [missing if number == axis else size for number, size in enumerate(matrix.shape)]
    return torch.cat([matrix, matrix.new_zeros(shape)], axis) if missing else matrix
