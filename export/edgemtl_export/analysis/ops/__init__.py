"""Rules of operator families: each module exports ``RULES``, operator name to rule."""
