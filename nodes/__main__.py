"""``python -m nodes``: the command ``fabric``, for where it is not installed."""

from __future__ import annotations

import sys

from nodes.cli import main

sys.exit(main())
