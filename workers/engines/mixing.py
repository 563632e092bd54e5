"""Many adapters in one batch: every image has changes of its own, added to what the layers say.

All changes that an image uses become one pair of matrices for each layer: downs side by side, ups side by side with
their strengths in them. So a batch knows no difference between no adapter, one, several, or one at two strengths, and
whatever the batch, an image's own changes are all that reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from workers.engines.lora import Adapter, Change

Uses = Sequence[tuple[Adapter, float]]
"""The adapters of one image with their strengths."""


class Mixture:
    """The changes of a batch's images, while it is drawn."""

    def __init__(self, pipeline: Any, images: Sequence[Uses]) -> None:
        self._pipeline = pipeline
        self._images = list(images)
        self._layers: list[LayerMixture] = []

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Add the changes to what the layers say, for as long as the context lasts."""
        with ExitStack() as stack:
            for component, name in {key for uses in self._images for adapter, _ in uses for key in adapter.changes}:
                layer = getattr(self._pipeline, component).get_submodule(name)
                mixture = LayerMixture(layer, [_changes(uses, (component, name)) for uses in self._images])
                self._layers.append(mixture)
                stack.callback(layer.register_forward_hook(mixture).remove)
            yield

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out the images of all other rows from now on."""
        for layer in self._layers:
            layer.keep(rows)


class LayerMixture:
    """What a batch adds to one layer's output."""

    def __init__(self, layer: nn.Module, images: Sequence[Sequence[tuple[Change, float]]]) -> None:
        self._layer = layer
        like = next(change for uses in images for change, _ in uses)
        is_same = all(_same(uses, images[0]) for uses in images)
        pairs = [_join(uses, like) for uses in (images[:1] if is_same else images)]
        widest = max(len(down) for down, _ in pairs)
        self._down = torch.stack([_pad(down, 0, widest) for down, _ in pairs])
        self._up = torch.stack([_pad(up, 1, widest) for _, up in pairs])

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all other rows."""
        if len(self._down) > 1:
            self._down, self._up = self._down[list(rows)], self._up[list(rows)]

    def __call__(self, _layer: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """Return the output with the changes in it."""
        add = self._convolve if isinstance(self._layer, nn.Conv2d) else self._multiply
        return output + add(given[0]).reshape(output.shape)

    def _multiply(self, given: torch.Tensor) -> torch.Tensor:
        if len(self._down) == 1:
            return functional.linear(functional.linear(given, self._down[0]), self._up[0])
        count = len(self._down)
        # With guidance the batch is there twice or more: what one image has in all of them is computed together.
        rows = given.reshape(-1, count, *given.shape[1:-1], given.shape[-1]).transpose(0, 1)
        flat = rows.reshape(count, -1, given.shape[-1])
        added = torch.bmm(torch.bmm(flat, self._down.transpose(1, 2)), self._up.transpose(1, 2))
        return added.reshape(*rows.shape[:-1], added.shape[-1]).transpose(0, 1)

    def _convolve(self, given: torch.Tensor) -> torch.Tensor:
        count, layer = len(self._down), self._layer
        if count == 1:
            narrow = functional.conv2d(given, self._down[0], None, layer.stride, layer.padding, layer.dilation)
            return functional.conv2d(narrow, self._up[0])
        wide = given.reshape(-1, count * given.shape[1], *given.shape[2:])
        down, up = self._down.flatten(0, 1), self._up.flatten(0, 1)
        narrow = functional.conv2d(wide, down, None, layer.stride, layer.padding, layer.dilation, groups=count)
        return functional.conv2d(narrow, up, groups=count)


def _changes(uses: Uses, key: tuple[str, str]) -> list[tuple[Change, float]]:
    return [(adapter.changes[key], strength) for adapter, strength in uses if key in adapter.changes]


def _same(one: Sequence[tuple[Change, float]], other: Sequence[tuple[Change, float]]) -> bool:
    return len(one) == len(other) and all(a is b and x == y for (a, x), (b, y) in zip(one, other, strict=True))


def _join(uses: Sequence[tuple[Change, float]], like: Change) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one pair that does what all of them do together; nothing is a pair of rank 0."""
    if not uses:
        return like.down[:0], like.up[:, :0]
    downs = [change.down for change, _ in uses]
    ups = [change.up * strength for change, strength in uses]
    return torch.cat(downs), torch.cat(ups, 1)


def _pad(matrix: torch.Tensor, axis: int, width: int) -> torch.Tensor:
    """Widen a matrix with zeros, which add nothing."""
    missing = width - matrix.shape[axis]
    shape = [missing if number == axis else size for number, size in enumerate(matrix.shape)]
    return torch.cat([matrix, matrix.new_zeros(shape)], axis) if missing else matrix
