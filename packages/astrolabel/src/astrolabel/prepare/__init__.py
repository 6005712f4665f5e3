"""What files lack: sky level, noise, PSF and saturation, measured on the pixels."""
