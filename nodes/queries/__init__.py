"""The first conversation: one asks, many answer, whoever asked goes on."""
