"""The Python API behind `fednet.launch`, `fednet.Run`, `fednet.connect` and `fednet.join`.

It works in a script, on a thread, and in Jupyter, where an event loop is running: whatever talks to the network does so
on a thread of its own, and no signal handler is installed.
"""
