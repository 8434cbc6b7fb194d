"""Align parts: losses that draw domains together. ``base`` says what such a part is given and gives back."""
