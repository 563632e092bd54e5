"""What a start leaves is spared, and what comes after it is not kept longer for that."""

import subprocess
import sys

RUN = """
import collections
import gc
from tasks.collector import spare_what_stays

class Node:
    alive = most = 0
    def __init__(self):
        self.itself = self
        Node.alive += 1
        Node.most = max(Node.most, Node.alive)
    def __del__(self):
        Node.alive -= 1

stays = [[] for _ in range(2_000_000)]
spare_what_stays()
assert gc.get_freeze_count() > 2_000_000
lately = collections.deque(maxlen=2_000)
for _ in range(500_000):
    lately.append(Node())  # old when it is dropped: only a full collection finds it
print(Node.most)
"""


def test_garbage_is_found_soon_however_much_stays() -> None:
    said = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True, timeout=60)
    assert int(said.stdout) < 100_000
