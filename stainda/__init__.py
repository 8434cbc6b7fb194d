"""stainda: will a detector trained in one stain at one centre work in the others, and what gets it there?"""

__version__ = "0.1.0"
