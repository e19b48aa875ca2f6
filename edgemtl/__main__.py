"""``python -m edgemtl``, as ``edgemtl``."""

import sys

from .cli import main

sys.exit(main())
