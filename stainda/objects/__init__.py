"""Objects by their outlines: overlap, assignment, matching, tracking through sections, mutual support, cuts at necks."""
