"""Every peer offers, every peer absorbs."""
