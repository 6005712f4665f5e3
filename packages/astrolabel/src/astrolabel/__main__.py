"""``python -m astrolabel``: the same as the command ``astrolabel``."""

import sys

from astrolabel.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
