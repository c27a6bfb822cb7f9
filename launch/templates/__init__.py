"""What `fednet init` writes."""
