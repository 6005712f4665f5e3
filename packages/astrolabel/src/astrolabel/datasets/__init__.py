"""Many coadds as one dataset: manifests, splits on the sky, relabelling and counts."""
