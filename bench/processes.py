"""CPU and memory of process trees."""

from __future__ import annotations

import psutil


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, its living descendants and its children that ended."""
    return sum(sum(process.cpu_times()[:4]) for process in _tree(pid))


def resident_mebibytes(pid: int) -> float:
    """Return the resident memory of a process and its descendants; shared pages count for each."""
    return float(sum(process.memory_info().rss for process in _tree(pid))) / 2**20


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]
