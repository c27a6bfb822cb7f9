"""A stand-in for a node, which tells what it sees."""

import os
import sys

from nodes.spec import NodeSpec


def tell(spec: NodeSpec) -> None:
    sys.stdout.write(f"{spec.device} of {os.environ['CUDA_VISIBLE_DEVICES']}\n")
