"""Structured sparsity in training: a group lasso over channel groups, with a schedule to a target cost.

Apart from its settings, errors and this package, nothing here knows of networks, data or tasks.
"""
