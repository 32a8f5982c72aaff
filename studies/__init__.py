"""The studies that ship with ablate."""
