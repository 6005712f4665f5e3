"""COCO files and images to samples: contrast, augmentation and loading."""
