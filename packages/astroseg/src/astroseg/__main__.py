"""`python -m astroseg`, also for torchrun."""

import sys

from astroseg.cli.main import main

sys.exit(main())
