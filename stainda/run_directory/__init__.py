"""The run directory: where everything of one study lies."""
