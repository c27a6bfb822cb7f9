"""`python -m launch` is the command `fednet`, for engines that are told which Python to start."""

import sys

from launch.cli import main

if __name__ == "__main__":
    code = main()
    if "--spec" in sys.argv:  # a node that was asked to end has little time for it
        from launch.run.placed import leave

        leave(code)
    sys.exit(code)
