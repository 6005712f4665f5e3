"""Print the oldest versions that a package's pyproject.toml allows, as constraints for pip.

python .ci/oldest.py packages/astrolabel/pyproject.toml parquet fetch
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
for group in (
    project["dependencies"],
    *(project["optional-dependencies"][name] for name in sys.argv[2:]),
):
    for requirement in group:
        print(requirement.replace(">=", "==").partition(",")[0])
