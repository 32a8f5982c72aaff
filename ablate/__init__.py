"""Controlled experiments for image-to-image GANs: the study driver and the command line."""

__version__ = "0.1.0"
