"""Labels parts: which annotations the task loss learns from."""
