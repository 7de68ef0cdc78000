"""Stores a reading a second and shows each new result of the query: `python main.py [COUNT]`.

Needs `pip install -r requirements.txt` and a running `cvx dev` (which writes CONVEX_URL to .env.local).
"""

import os
import random
import sys
import time
from pathlib import Path

from convex import ConvexClient

SENSOR = "kitchen"


def deployment_url() -> str:
    """CONVEX_URL of the environment, else of .env.local."""
    if "CONVEX_URL" in os.environ:
        return os.environ["CONVEX_URL"]
    for line in (Path(__file__).parent / ".env.local").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "CONVEX_URL":
            return value.strip("'\"")
    raise SystemExit("No CONVEX_URL in .env.local: start `cvx dev` first.")


def show(readings: list) -> None:
    print("latest:", [round(reading["value"], 1) for reading in readings], flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    client = ConvexClient(deployment_url())
    # A subscription yields the current result, then every new one, whoever wrote what changed it.
    subscription = client.subscribe("readings:latest", {"sensor": SENSOR, "count": 5})
    results = iter(subscription)
    show(next(results))
    for _ in range(count):
        client.mutation("readings:record", {"sensor": SENSOR, "value": random.gauss(20, 2)})
        show(next(results))
        time.sleep(1)
    subscription.unsubscribe()


if __name__ == "__main__":
    main()
