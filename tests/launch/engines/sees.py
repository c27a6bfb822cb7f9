"""A stand-in for a node, which tells what it sees; as a script, that of the node file on standard input."""

import os
import sys

from launch.engines.node_file import parse_node_file
from nodes.spec import NodeSpec


def tell(spec: NodeSpec) -> None:
    sys.stdout.write(f"{spec.device} of {os.environ['CUDA_VISIBLE_DEVICES']}\n")


if __name__ == "__main__":
    tell(parse_node_file(sys.stdin.buffer.readline(), "standard input").node())
