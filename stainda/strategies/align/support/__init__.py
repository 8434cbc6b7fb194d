"""What align parts share: rows of features, discriminators, buffers. These modules import torch."""
