"""Predictions and truth to metrics, plots and one page. Imports no torch."""
