"""The training workers: parts, recipe, data and the DDP loop.

This package and the heads of its parts import without torch, so that the driver can read, check
and document a recipe; torch is imported inside what builds and trains.
"""
