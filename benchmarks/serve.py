"""A server under load, and under nonsense: latency, answers a second, errors, memory.

    python benchmarks/serve.py RUN PHOTOS [CLIENTS] [SECONDS]

Starts `tl serve` on a free port of this machine. CLIENTS (50) send JPEGs below PHOTOS for SECONDS (60), each the next
one as soon as its answer has come; then 1,000 requests come that no server can make sense of. The clients run on the
same cores.
"""

from __future__ import annotations

import asyncio
import collections
import random
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np

MALFORMED = 1000
Statuses = collections.Counter[str]


def memory(process: subprocess.Popen[str]) -> float:
    """MB that a process holds."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1e3


async def load(url: str, photos: list[Path], clients: int, seconds: float) -> tuple[list[float], Statuses]:
    """Seconds that each answer took, and what came back how often."""
    files = [path.read_bytes() for path in photos[:200]]
    took, statuses = [], Statuses()
    until = time.monotonic() + seconds

    async def one(client: httpx.AsyncClient, place: int) -> None:
        while time.monotonic() < until:
            place = (place + clients) % len(files)
            began = time.perf_counter()
            try:
                answer = await client.post(url + "predict", files={"file": (photos[place].name, files[place])})
                statuses[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                statuses[type(error).__name__] += 1
            took.append(time.perf_counter() - began)

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        await asyncio.gather(*(one(client, i) for i in range(clients)))
    return took, statuses


def nonsense(photo: bytes, random_: random.Random) -> list[dict[str, object]]:
    """Kinds of requests that are malformed, with bytes of their own each time."""
    noise = random_.randbytes(random_.randrange(1, 5000))
    cut = photo[: random_.randrange(10, len(photo) // 2)]
    broken = bytearray(photo[:20_000])
    for _ in range(200):
        broken[random_.randrange(len(broken))] = random_.randrange(256)
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    return [
        {"url": "predict", "files": {"file": ("noise.jpg", noise)}},
        {"url": "predict", "files": {"file": ("cut.jpg", cut)}},
        {"url": "predict", "files": {"file": ("", b"")}},
        {"url": "predict", "files": {"image": ("a.jpg", photo)}},
        {"url": "predict", "content": noise, "headers": multipart},
        {"url": "predict", "content": noise, "headers": {"Content-Type": "application/json"}},
        {"url": "predict", "content": b"[" * 5000, "headers": {"Content-Type": "application/json"}},
        {"url": "predict", "files": {"file": ("large.jpg", bytes(11_000_000))}},
        {"url": "predict?explain=maybe", "files": {"file": ("a.jpg", photo)}},
        {"url": "predict_batch", "files": [("files", (f"{i}.jpg", b"")) for i in range(300)]},
        {"url": "predict_batch", "data": {"files": "no file"}},
        {"url": f"predict/{random_.randrange(10**9)}", "content": noise},
        {"url": "../../etc/passwd", "content": noise},
        {"url": "predict", "files": {"file": ("bomb.png", bomb())}},
        {"url": "predict", "files": {"file": ("broken.webp", b"RIFF" + bytes(broken[4:]))}},
    ]


def bomb() -> bytes:
    """A small PNG that says it has 900 megapixels."""
    import io
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.seek(0, 2)
    file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)))
    file.write(chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    return file.getvalue()


def malformed(url: str, photo: bytes) -> Statuses:
    """What came back how often."""
    statuses, random_ = Statuses(), random.Random(0)
    with httpx.Client(timeout=60) as client:
        for i in range(MALFORMED):
            kinds = nonsense(photo, random_)
            asked = kinds[i % len(kinds)]
            try:
                answer = client.post(url + str(asked.pop("url")), **asked)  # type: ignore[arg-type]
                statuses[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                statuses[f"{type(error).__name__}, kind {i % len(kinds)}"] += 1
    return statuses


def main() -> None:
    """Print the table."""
    run, photos = sys.argv[1], sorted(Path(sys.argv[2]).rglob("*.jpg"))
    clients, seconds = (int(word) for word in [*sys.argv[3:], *("50", "60")[len(sys.argv) - 3 :]])
    command = [sys.executable, "-m", "tl_lightning", "serve", f"run={run}", "port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[0]
        asyncio.run(load(url, photos, clients, 3))  # warms up
        before = memory(process)
        took, statuses = asyncio.run(load(url, photos, clients, seconds))
        p50, p95 = np.percentile(took, [50, 95])
        print(
            f"{clients} clients, {seconds} s: {dict(statuses)}, {len(took) / seconds:.0f} a second, "
            f"p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms; {before:.0f} MB before, {memory(process):.0f} after"
        )
        for round_ in (1, 2):
            statuses = malformed(url, photos[0].read_bytes())
            print(f"{MALFORMED} malformed requests, round {round_}: {dict(statuses)}; {memory(process):.0f} MB after")
        print(f"still answers: {httpx.get(url + 'health').json()}, {httpx.get(url + 'latency').json()}")
    finally:
        process.terminate()
        print(f"ends with {process.wait(20)}")


if __name__ == "__main__":
    main()
