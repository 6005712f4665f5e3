"""Readers: one survey layout each, all giving a `Coadd`."""
