"""A straight line through points that no two sites have in common."""
