"""Pruning of networks that are trained already: decide, train, remove, export."""
