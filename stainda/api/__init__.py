"""What ``import stainda as st`` offers: thin verbs and objects that call what the commands call. No logic."""
