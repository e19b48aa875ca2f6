"""Train, shrink and export multi-task networks for paired colour and thermal cameras."""
