"""Datasets: their formats, labels, augmentation and batches."""
