"""Ember, the demo chat model: lessons, training and weights."""
