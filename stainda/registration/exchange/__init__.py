"""Exchange of transforms with other programs: import without unpickling, and export."""
