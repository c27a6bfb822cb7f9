"""`python -m launch` is the command `fednet`, for engines that are told which Python to start."""

import sys

from launch.cli import main

if __name__ == "__main__":
    sys.exit(main())
