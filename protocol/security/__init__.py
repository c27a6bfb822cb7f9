"""Authentication, encryption and quarantine of peers, as pure functions and state."""
