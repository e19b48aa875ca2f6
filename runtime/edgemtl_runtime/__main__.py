"""``python -m edgemtl_runtime``."""

from .cli import entry

if __name__ == "__main__":
    entry()
