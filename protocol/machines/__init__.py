"""The pure machines of rounds: who leads, what an attempt has reached, what is said and done next.

Each takes an event and a time and returns instructions; `nodes.rounds` carries them out and decides nothing.
"""
