"""Cells in relation to structures, across stains: counts, densities and spatial statistics with their uncertainty."""
