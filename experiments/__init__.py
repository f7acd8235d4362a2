"""Programs: `python -m experiments.<name> --help`."""

import sys

from reid_jax import tuning

if sys.argv[0] == "-m":  # Python's own mark of a package that is imported on the way to a program
    tuning.start_tuned()
