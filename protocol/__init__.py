"""The wire protocol: messages, codec, limits, pure state machines and security. No sockets, no models, no clock."""
