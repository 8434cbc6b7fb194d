"""Objects by their outlines: overlap, assignment, matching, tracking through sections, support, cuts at necks."""
