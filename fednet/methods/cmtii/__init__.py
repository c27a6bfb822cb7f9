"""Interchange of pseudo-words: sites teach one another classes that they have never seen by a kilobyte of words."""
