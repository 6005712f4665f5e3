"""The command line: words to a configuration, errors to one line."""
