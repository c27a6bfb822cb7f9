"""The second conversation: a round opens, peers contribute, it closes with one aggregate."""
