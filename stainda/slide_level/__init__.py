"""Labels of whole slides or patients: bags of features of a frozen encoder, and how they become one answer.

A slide is a bag of patches on a grid over its tissue. A frozen encoder gives a vector for each patch, once, into the
cache of features that fine-tuning uses too. An aggregator (mean, max, gated attention, CLAM, TransMIL) learns from the
labels of source patients which vectors speak for the label, and is scored on patients of every domain.
"""
