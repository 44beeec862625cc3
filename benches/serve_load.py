#!/usr/bin/env python3
"""How `predict serve` bears many clients, and clients that mean no good: answers a second, latency, peak memory.

    python3 benches/serve_load.py target/release/predict MODEL [--clients 64] [--requests 2000]

MODEL is a folder that `predict export` wrote; its reference images are sent. Standard library only; Linux.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import random
import re
import struct
import subprocess
import time
import zlib


class Server:
    """The program, on a free port."""

    def __init__(self, program, model, *args):
        command = [program, "serve", "--model", model, "--port", "0", "--quiet", *args]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        self.port = int(re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", self.process.stdout.readline())[1])

    def peak_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0, self.process.returncode


async def ask(reader, writer, body, more=""):
    """Sends a body over a connection that is kept; status and body of the answer."""
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(re.search(r"content-length: (\d+)", head)[1])
    return int(head.split(" ")[1]), await reader.readexactly(length)


async def many(port, images, clients, requests):
    """What `clients` at a time are told, and how long each waits, s."""
    left, waits, answers = iter(range(requests)), [], collections.defaultdict(set)

    async def client():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in left:
            image = number % len(images)
            since = time.monotonic()
            status, answer = await ask(reader, writer, images[image])
            waits.append(time.monotonic() - since)
            answers[status, image].add(answer)
        writer.close()

    since = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.monotonic() - since, sorted(waits), answers


def png(width, height, depth, colour, rows):
    """A PNG file whose header may claim anything; `rows` are its raw bytes, as pieces."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    packer = zlib.compressobj(9)
    data = b"".join([*(packer.compress(piece) for piece in rows), packer.flush()])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def hostile(image):
    """300 uploads: images that grow a thousandfold, headers that lie, cuts, flips, other files."""
    draw = random.Random(1)
    rows = lambda width, height, size: (bytes(1 + width * size) for _ in range(height))
    # The largest image that is decoded, in the deepest pixels: 512 MiB of them in half a megabyte.
    bombs = [png(8192, 8192, 16, 6, rows(8192, 8192, 8)), png(32768, 2048, 16, 2, rows(32768, 2048, 6))]
    uploads = bombs * 15
    uploads += [png(side, side, 8, 0, [b"abc"]) for side in [8193, 20_000, 32_768, 65_535, 2**31 - 1, 2**31] for _ in range(5)]
    uploads += [image[: len(image) * part // 80] for part in range(80)]
    for _ in range(80):
        flipped = bytearray(image)
        for _ in range(3):
            flipped[draw.randrange(8, len(image) - 12)] ^= 1 << draw.randrange(8)
        uploads.append(bytes(flipped))
    starts = [b"PK\3\4", b"<!doctype html>", b"%PDF-1.7", b"\x7fELF", b"GIF89a", b"RIFF", b"\x1f\x8b", b"\xff\xd8\xff\xe0"]
    uploads += [start + draw.randbytes(draw.randrange(1, 1 << 21)) for start in starts for _ in range(10)]
    draw.shuffle(uploads)
    return uploads


async def alone(port, uploads, clients):
    """Statuses of uploads, each on a connection of its own, asked again where the server is busy."""
    left, said = iter(uploads), collections.Counter()

    async def client():
        for upload in left:
            status = 503
            while status == 503:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                status, _ = await ask(reader, writer, upload, "Connection: close\r\n")
                writer.close()
                said[status] += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return dict(sorted(said.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=2000)
    args = parser.parse_args()
    images = [path.read_bytes() for path in sorted((args.model / "reference").glob("*.png"))]

    server = Server(args.program, args.model)
    idle = server.peak_mib()
    took, waits, answers = asyncio.run(many(server.port, images, args.clients, args.requests))
    statuses = sorted({status for status, _ in answers})
    different = sum(len(bodies) - 1 for bodies in answers.values())
    print(f"{len(waits)} of {args.requests} requests by {args.clients} clients answered, statuses {statuses}")
    print(f"{different} answers differ from others about the same image")
    print(f"{len(waits) / took:.1f} requests/s; latency median {waits[len(waits) // 2]:.3f} s, 99 % {waits[len(waits) * 99 // 100]:.3f} s")
    print(f"peak memory {server.peak_mib():.0f} MiB ({idle:.0f} MiB before)")
    server.stop()

    server = Server(args.program, args.model)
    uploads = hostile(images[0])
    since = time.monotonic()
    said = asyncio.run(alone(server.port, uploads, 16))
    print(f"{len(uploads)} hostile uploads in {time.monotonic() - since:.1f} s, statuses {json.dumps(said)}")
    print(f"peak memory {server.peak_mib():.0f} MiB")
    (_, _, answers) = asyncio.run(many(server.port, images, 1, len(images)))
    assert all(status == 200 for status, _ in answers), "good images are not answered any more"
    server.stop()


if __name__ == "__main__":
    main()
