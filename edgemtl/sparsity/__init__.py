"""Structured sparsity in training: group lasso over channel groups, held to a cost."""
