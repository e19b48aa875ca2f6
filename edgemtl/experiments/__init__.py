"""Experiments: procedures that train several networks."""
