"""Walk through the labels in a browser, correct them, and apply the corrections."""
