"""Label policies: which label folders count where each camera's view was labelled by itself."""

POLICIES = ("fused", "rgb", "ir", "union")
FOLDERS = {"fused": ("labels",), "rgb": ("labels_rgb",), "ir": ("labels_ir",), "union": ("labels_rgb", "labels_ir")}
"""The label folders that each policy reads."""
