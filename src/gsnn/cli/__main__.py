"""``python -m gsnn.cli`` is the command ``gsnn``."""

from . import main

main()
