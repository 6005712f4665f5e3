"""Deblenders: one group of overlapping sources in, each source alone out."""
