"""One tile from pixels to annotations, and the pipeline over tiles."""
