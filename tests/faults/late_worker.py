"""A worker that stands still at a point before it hears that it need not, and then ends: ``python -m`` this."""

from __future__ import annotations

import json
import sys

from faults.lane import Lane

if __name__ == "__main__":
    lane = Lane(1.0)
    lane._stop_at = json.loads(sys.stdin.readline())["stop"]
    lane.reached("there")
