#!/usr/bin/env python3
"""Writes the seed corpora of virtio_queue, virtio_block and virtio_state: rings and states as a driver
makes them, and the ways to break them that the unit tests know."""
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"
NEXT, WRITE, INDIRECT = 1, 2, 4
SIZE = 32


def memory(descriptors, heads, extra=()):
    image = bytearray(0x3000)
    for index, (address, length, flags, successor) in descriptors.items():
        struct.pack_into("<QIHH", image, 16 * index, address, length, flags, successor)
    struct.pack_into("<HH", image, 0x400, 0, len(heads))
    for slot, head in enumerate(heads):
        struct.pack_into("<H", image, 0x404 + 2 * slot, head)
    for offset, data in extra:
        image[offset:offset + len(data)] = data
    return bytes(image).rstrip(b"\0")


def request(kind, sector, data_length, writes, data=b""):
    """One block request: header at 0x1000, status at 0x1040, data at 0x2000."""
    descriptors = {0: (0x1000, 16, NEXT, 1), 1: (0x2000, data_length, NEXT | (WRITE if writes else 0), 2),
                   2: (0x1040, 1, WRITE, 0)}
    return memory(descriptors, [0], [(0x1000, struct.pack("<IIQ", kind, 0, sector)), (0x2000, data)])


def ranges(*segments):
    return b"".join(struct.pack("<QII", *segment) for segment in segments)


def save(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


RINGS = {
    "direct": memory({0: (0x1000, 16, NEXT, 1), 1: (0x2000, 600, WRITE, 0)}, [0]),
    "several": memory({i: (0x1000 + 64 * i, 64, i % 2 * WRITE, 0) for i in range(6)}, [0, 1, 2, 3, 4, 5]),
    "loop": memory({0: (0x1000, 16, NEXT, 1), 1: (0x1000, 16, NEXT, 0)}, [0]),
    "outside": memory({0: (0xfff0, 64, 0, 0)}, [0]),
    "order": memory({0: (0x1000, 16, NEXT | WRITE, 1), 1: (0x1000, 16, 0, 0)}, [0]),
    "head": memory({}, [SIZE]),
    "empty": memory({0: (0, 0, NEXT, 1), 1: (0x1000, 1, 0, 0)}, [0]),
    "jump": memory({}, []) + b"\0" * 0x402 + b"\xff\x7f",
    "second_region": memory({0: (0x100ff0, 16, 0, 0)}, [0]),
    "indirect": memory({0: (0x1800, 32, INDIRECT, 0)}, [0],
                       [(0x1800, struct.pack("<QIHHQIHH", 0x1000, 16, NEXT, 1, 0x2000, 64, WRITE, 0))]),
    "nested": memory({0: (0x1800, 16, INDIRECT, 0)}, [0],
                     [(0x1800, struct.pack("<QIHH", 0x1800, 16, INDIRECT, 0))]),
}
REQUESTS = {
    "in": request(0, 3, 1024, True),
    "in_end": request(0, 63, 1024, True),
    "out": request(1, 1, 512, False, b"data" * 128),
    "flush": request(4, 0, 0, False),
    "id": request(8, 0, 20, True),
    "discard": request(11, 0, 16, False, ranges((8, 16, 0))),
    "zeroes": request(13, 0, 32, False, ranges((1, 9, 1), (60, 4, 0))),
    "unknown": request(77, 0, 512, True),
    "no_status": memory({0: (0x1000, 16, 0, 0)}, [0]),
    "big_sector": request(0, 1 << 55, 512, True),
    "full_overlay": memory(
        {0: (0x1000, 16, NEXT, 1), 1: (0x2000, 0x5000, NEXT, 2), 2: (0x1040, 1, WRITE, 0)}, [0],
        [(0x1000, struct.pack("<IIQ", 1, 0, 0))]),
}


def transport_state(status, features, ready, position, size=SIZE):
    device = struct.pack("<QB", 64 * 512, 1) + b"fuzz".ljust(20, b"\0")
    # What the read-only disk offers, with VERSION_1, EVENT_IDX and INDIRECT_DESC.
    offered = (1 << 1) | (1 << 2) | (1 << 5) | (1 << 6) | (1 << 9) | (1 << 10) | (1 << 28) | (1 << 29) | (1 << 32)
    out = struct.pack("<IQQIIIIII", 2, offered, features, 1, 1, 0, status, 1, 0)
    out += struct.pack("<BHQQQBH", 1, size, 0, 0x400, 0x800, ready, position)
    return out + struct.pack("<I", len(device)) + device


V1 = 1 << 32
STATES = {
    "active": b"\0" + transport_state(15, V1, 1, 0),
    "reset": b"\0" + transport_state(0, 0, 0, 0, 0),
    "negotiating": b"\0" + transport_state(3, 0, 0, 0, 0),
    "failed": b"\0" + transport_state(15 | 64, V1, 1, 0),
    "position": b"\0" + transport_state(15, V1, 1, 9),
    "order": b"\0" + transport_state(4, V1, 1, 0),
    "serial": b"\1" + struct.pack("<BBBBBBHBI", 3, 1, 3, 11, 0, 0, 1, 1, 2) + b"ls",
    "serial_bad": b"\1" + struct.pack("<BBBBBBHBI", 0x80, 1, 3, 11, 0, 0, 1, 1, 0),
    "runs": b"\2" + struct.pack("<QQQQ", 0, 3, 64, 1),
    "runs_overlap": b"\2" + struct.pack("<QQQQ", 0, 3, 2, 1),
}

for name, image in RINGS.items():
    for flags in (0, 3):
        save("virtio_queue", f"{name}_{flags}", bytes([flags | 28, 1]) + image)
    save("virtio_block", f"ring_{name}", bytes([1]) + image)
for name, image in REQUESTS.items():
    for flags in (0, 7, 11):
        save("virtio_block", f"{name}_{flags}", bytes([flags]) + image)
for name, data in STATES.items():
    save("virtio_state", name, data)
