"""Configuration, errors, files, RLE and samples: what every stage shares."""
