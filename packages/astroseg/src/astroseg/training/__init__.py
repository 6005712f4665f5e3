"""One trainer for every engine: schedule, precision, processes and resume."""
