"""Metrics: AP, matching, classification, deblending, bootstrap intervals."""
