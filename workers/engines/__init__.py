"""The engines a worker can hold; the only place that may import torch."""
