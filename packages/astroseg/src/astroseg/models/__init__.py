"""The networks, named and sized in `spec`, built from torchvision's operators in the rest."""
