"""Add a picture to the album from Python: `python upload.py <deployment url> <file>`."""

import mimetypes
import sys
from pathlib import Path

import httpx
from convex import ConvexClient

url, name = sys.argv[1:]
picture = Path(name)
client = ConvexClient(url)

upload_url = client.mutation("photos:generateUploadUrl")
content_type = mimetypes.guess_type(picture)[0] or "application/octet-stream"
with picture.open("rb") as file:
    answer = httpx.post(upload_url, content=file, headers={"Content-Type": content_type}, timeout=None)
answer.raise_for_status()
storage_id = answer.json()["storageId"]
print(client.mutation("photos:add", {"file": storage_id, "caption": picture.name, "author": "Python"}))
