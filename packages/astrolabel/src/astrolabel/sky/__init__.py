"""Positions and images on the sky: matches, overlaps, parts that share none of it."""
