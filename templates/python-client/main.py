"""Writes a reading a second and prints every new result of the query: `python main.py [COUNT]`.

Needs `pip install -r requirements.txt` and a running `cvx dev` (which writes CONVEX_URL to .env.local).
"""

import os
import random
import sys
import threading
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


def show(client: ConvexClient) -> None:
    """Print each result as it arrives; the subscription follows the database by itself."""
    for readings in client.subscribe("readings:latest", {"sensor": SENSOR, "count": 5}):
        print("latest:", [round(reading["value"], 1) for reading in readings], flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    url = deployment_url()
    threading.Thread(target=show, args=(ConvexClient(url),), daemon=True).start()
    writer = ConvexClient(url)
    for _ in range(count):
        writer.mutation("readings:record", {"sensor": SENSOR, "value": random.gauss(20, 2)})
        time.sleep(1)
    time.sleep(0.5)


if __name__ == "__main__":
    main()
