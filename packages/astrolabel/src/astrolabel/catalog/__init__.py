"""Read catalogs, crossmatch them with detections, and take classes from them."""
