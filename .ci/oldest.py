"""Print the oldest versions that a package's pyproject.toml allows, as constraints for pip.

python .ci/oldest.py packages/astrolabel/pyproject.toml parquet fetch
"""

import sys
import tomllib
from itertools import chain
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
extras = (project["optional-dependencies"][name] for name in sys.argv[2:])
for requirement in chain(project["dependencies"], *extras):
    print(requirement.replace(">=", "==").partition(",")[0])
