"""Objects by their outlines: overlap, assignment, matching, tracking through sections, and mutual support."""
