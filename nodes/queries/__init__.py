"""The first conversation: one asks, many answer, the asker goes on."""
