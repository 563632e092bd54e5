"""Sketch, the demo image model: figures, training, weights and adapters."""
