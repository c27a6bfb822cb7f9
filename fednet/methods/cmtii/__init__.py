"""Exchange of pseudo-words: a kilobyte of embeddings tells other sites of a class that they have never seen."""
