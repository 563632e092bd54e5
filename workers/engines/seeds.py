"""Seeds on CPUs: torch's generators for them lack what vLLM asks of one, and its process would die of it."""

from __future__ import annotations

import torch
from vllm.platforms import current_platform


class RewindingGenerator(torch.Generator):
    """A generator that goes back to its beginning.

    Of a prompt that is read in parts vLLM draws a token after each and takes it back, all but the last: nothing that
    counts was drawn by then.
    """

    def get_offset(self) -> int:
        """Return where the draws began; those for CPUs do not know where they are."""
        return 0

    def set_offset(self, _: int) -> None:
        """Take back what was drawn."""
        self.manual_seed(self.initial_seed())


def mend_generators() -> None:
    """Have vLLM make such generators, where it computes on a CPU."""
    if current_platform.is_cpu():
        torch.Generator = RewindingGenerator  # vLLM has no other place to say so
