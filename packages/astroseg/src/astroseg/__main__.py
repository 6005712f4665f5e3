"""`python -m astroseg`, also for torchrun."""

import sys

from astroseg.cli import main

sys.exit(main())
