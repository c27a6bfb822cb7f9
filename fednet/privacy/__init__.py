"""What keeps a participant's data and contribution to itself: sums that nobody opens, and accounted noise."""
