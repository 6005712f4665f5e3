"""The detection image, its peaks, and which peaks are sources."""
