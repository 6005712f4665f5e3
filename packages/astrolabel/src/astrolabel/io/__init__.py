"""Survey files to arrays; COCO, Parquet and pictures to and from disk."""
