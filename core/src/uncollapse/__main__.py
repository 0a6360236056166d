"""``python -m uncollapse``, which launchers such as ``torchrun -m uncollapse train …`` need."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
