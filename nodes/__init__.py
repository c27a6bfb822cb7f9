"""Who speaks: the bus, the nodes on it, and their conversations."""
