"""After parts: what happens to a trained network, or to its predictions, at a new slide."""
