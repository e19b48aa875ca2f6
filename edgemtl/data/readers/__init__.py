"""Readers of label files, one file format each."""
