"""View parts: what the network sees of a patch."""
