"""What is said: messages, codec, topics, limits, presence, ledger. No sockets, no models, no clock."""
