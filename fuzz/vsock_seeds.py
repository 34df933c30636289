#!/usr/bin/env python3
"""Writes the seed corpus of the vsock fuzz target: short programs in the step language of vsock_fuzz.cc.

Run from anywhere; overwrites the files it names and leaves others (findings, minimised inputs) alone.
"""
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus" / "vsock"

# Steps; see Machine::step().
RAW, PACKET, BUFFERS, CONNECT, ACCEPT, WRITE, READ, END, LISTEN, OTHER = 0, 1, 5, 7, 8, 9, 10, 11, 12, 13
REQUEST, RESPONSE, RST, SHUTDOWN, RW, UPDATE, ASK = 1, 2, 3, 4, 5, 6, 7
BIG = 0xFA  # 65536
HOST_PORT_0 = 0x00  # host's first connection, guest port 1024
LISTENER_0 = 0xC0  # host port 1025, guest port 1024
MUCH, LITTLE, ACK = 0x80, 0x10, 0x81


def packet(ports, op, flags=0, size=None, credit=MUCH, rest=b""):
    return bytes([PACKET, ports, op + 9 * flags] + ([size] if op == RW else []) + [credit]) + rest


def buffers(count=63, size=0xF9):
    return bytes([BUFFERS, count, size])


def raw(op, src_port, dst_port, length=0, payload=0, src_cid=3, kind=1):
    header = struct.pack("<QQIIIHHIII", src_cid, 2, src_port, dst_port, length, kind, op, 0, 0x40000, 0)
    return bytes([RAW]) + header + bytes([payload])


OPENED = bytes([CONNECT, 0]) + buffers() + packet(HOST_PORT_0, RESPONSE)
LISTENING = bytes([LISTEN, 0])

SEEDS = {
    "connect": OPENED,
    "refused": bytes([CONNECT, 0]) + buffers() + packet(HOST_PORT_0, RST),
    "echo": OPENED + packet(HOST_PORT_0, RW, size=100) + bytes([READ, 0, 100, WRITE, 100, 0]) + buffers(),
    "credit_stall": bytes([CONNECT, 0]) + buffers() + packet(HOST_PORT_0, RESPONSE, credit=LITTLE)
    + bytes([WRITE, BIG, 0]) + buffers() + packet(HOST_PORT_0, UPDATE, credit=ACK) + buffers(),
    "credit_lie": OPENED + bytes([WRITE, 100, 0]) + buffers()
    + packet(HOST_PORT_0, UPDATE, credit=0x82, rest=struct.pack("<I", 101)) + buffers(),
    "beyond_credit": OPENED + packet(HOST_PORT_0, RW, size=BIG) * 5 + buffers() + bytes([READ, 0, 0xFE]),
    "credit_update": OPENED + packet(HOST_PORT_0, RW, size=BIG) * 2 + bytes([READ, 0, 0xFE]) + buffers(),
    "length_lie": OPENED + packet(HOST_PORT_0, RW, size=100, credit=0x83, rest=bytes([50])),
    "half_close": OPENED + packet(HOST_PORT_0, SHUTDOWN, flags=2) + bytes([WRITE, 9, 0, END, 0, 0]) + buffers(),
    "full_close": OPENED + packet(HOST_PORT_0, RW, size=5) + packet(HOST_PORT_0, SHUTDOWN, flags=3) + buffers()
    + bytes([READ, 0, 100]),
    "host_close": OPENED + bytes([WRITE, 100, 0, END, 0, 1]) + buffers() + packet(HOST_PORT_0, RST),
    "host_abort": OPENED + bytes([WRITE, 100, 0, END, 0, 2]) + buffers(),
    "accept": LISTENING + packet(LISTENER_0, REQUEST) + buffers() + packet(LISTENER_0, RW, size=9)
    + bytes([ACCEPT, 0, READ, 0, 9, WRITE, 20, 0]) + buffers(),
    "early_data": LISTENING + packet(LISTENER_0, REQUEST) + packet(LISTENER_0, RW, size=9) + buffers(),
    "backlog_reset": LISTENING + packet(LISTENER_0, REQUEST) + packet(LISTENER_0, RST) + packet(LISTENER_0, REQUEST)
    + buffers(),
    "no_listener": packet(LISTENER_0, REQUEST) + packet(LISTENER_0, RW, size=3) + buffers(),
    "raw": raw(REQUEST, 5, 1025) + raw(RW, 5, 1025, 9, 9) + raw(RST, 5, 1025) + raw(RW, 6, 7, 0xFFFFFFFF, 1)
    + raw(REQUEST, 5, 1025, src_cid=9) + raw(REQUEST, 5, 1025, kind=2) + raw(0xFFFF, 5, 1025) + buffers(),
    "many_unknown": b"".join(raw(RW, port, 99) for port in range(40)) + buffers() + raw(RW, 99, 99) + buffers(),
    "driver_reset": OPENED + bytes([CONNECT, 1, OTHER, 0xFF]) + buffers(),
    "out_of_turn": OPENED + packet(HOST_PORT_0, RESPONSE) + buffers() + bytes([CONNECT, 0]) + packet(0x04, RW, size=1)
    + buffers(),
    "two": OPENED + bytes([CONNECT, 0]) + buffers() + packet(0x04, RESPONSE) + bytes([WRITE, BIG, 0, WRITE, BIG, 1])
    + buffers(20, 200) + buffers(63, 0xF9),
    "state": bytes([1, 1, 2, 7, 0, 0, 0, 1, 0]),
    "ask": OPENED + packet(HOST_PORT_0, ASK) + buffers(1, 1),
}

CORPUS.mkdir(parents=True, exist_ok=True)
for name, seed in SEEDS.items():
    (CORPUS / name).write_bytes(seed)
print(f"{len(SEEDS)} seeds in {CORPUS}")
