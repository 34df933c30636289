#!/usr/bin/env python3
"""Writes the seed corpora of the agent's wire: whole conversations as each side would send them.

Written from the format's description in lib/agent/wire.h, not by its code. Run from anywhere;
overwrites the files it names and leaves others (findings, minimised inputs) alone.
"""
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def frame(kind, payload=b""):
    return struct.pack("<IBBH", len(payload), kind, 0, 0) + payload


def text(value):
    value = value.encode()
    return struct.pack("<I", len(value)) + value


def strings(values):
    return struct.pack("<H", len(values)) + b"".join(text(value) for value in values)


def hello(version=1, release="6.12.9-cloud-amd64", build="ramet-agent 0.1.0"):
    return frame(1, struct.pack("<H", version) + text(release) + text(build))


def execute(argv, env=(), cwd="", user=(0, 0, 0, ""), stdin=0, timeout_ms=0):
    kind, uid, gid, name = user
    return frame(2, strings(argv) + strings(env) + text(cwd) + struct.pack("<BII", kind, uid, gid) +
                 text(name) + struct.pack("<BI", stdin, timeout_ms))


def exited(kind, code, timed_out=0, why=""):
    return frame(8, struct.pack("<BiB", kind, code, timed_out) + text(why))


def reseed(hostname="fork-1", machine_id="0123456789abcdef0123456789abcdef"):
    return frame(10, bytes(range(64)) + bytes(15) + b"\x01" + struct.pack("<Q", 1_800_000_000 * 10**9) +
                 text(hostname) + text(machine_id))


def processes(count, listed):
    body = b"".join(struct.pack("<I", pid) + text(comm) for pid, comm in listed)
    return frame(13, struct.pack("<IH", count, len(listed)) + body)


def error(code, why):
    return frame(17, struct.pack("<H", code) + text(why))


def ping(token):
    return frame(14, struct.pack("<Q", token))


ACK = frame(11, bytes(15) + b"\x01")
CREDIT = frame(5, struct.pack("<IB", 32768, 0))
CLOSED = frame(5, struct.pack("<IB", 0, 1))

# The first byte chooses the call (0 hello, 1 ping, 2 reseed, 3 freeze, 4 exec with input, 5 exec,
# 6 suspend and thaw);
# 0x10 and the top bits make small pieces.
HOST = {
    "hello": b"\x00" + hello(),
    "hello-pieces": b"\x30" + hello(),
    "hello-version": b"\x00" + hello(version=2),
    "pong": b"\x01" + hello() + frame(15, bytes(8)),
    "reseed-ack": b"\x02" + hello() + ACK,
    "reseed-error": b"\x02" + hello() + error(4, "the kernel refused"),
    "frozen": b"\x03" + hello() + processes(0, []),
    "not-frozen": b"\x13" + hello() + processes(2, [(17, "cron"), (18, "sh")]),
    "suspended": b"\x06" + hello() + processes(0, []) + frame(20),
    "not-suspended": b"\x16" + hello() + processes(1, [(17, "cron")]) + error(1, "nothing is held"),
    "exec-input": b"\x04" + hello() + CREDIT + frame(6, b"out\n") + CREDIT + CLOSED + exited(0, 0),
    "exec-output": b"\x05" + hello() + frame(6, b"out" * 40) + frame(7, b"err\n") + exited(0, 127),
    "exec-signal": b"\x75" + hello() + exited(1, 9, timed_out=1),
    "exec-failed": b"\x05" + hello() + exited(2, 2, why="enter the working directory"),
    "exec-refused": b"\x05" + hello() + error(3, "the guest is frozen"),
    "cut": b"\x05" + hello() + frame(6, b"out\n")[:-2],
    "too-long": b"\x05" + hello() + struct.pack("<IBBH", 65537, 6, 0, 0),
}

# Bit 0 of the first byte: the guest is frozen.
GUEST = {
    "ping": b"\x00" + hello(release="", build="") + ping(1) + ping(2),
    "version": b"\x00" + hello(version=9),
    "exec": b"\x00" + hello() + execute(["sh", "-c", "true"], ["PATH=/bin", "A="], "/tmp",
                                        (2, 0, 0, "daemon"), 1, 2500),
    "exec-ids": b"\x00" + hello() + execute(["true"], user=(1, 1000, 100, "")),
    "frozen-exec": b"\x01" + hello() + execute(["true"]),
    "frozen-reseed-ping": b"\x01" + hello() + reseed() + ping(7),
    "freeze": b"\x00" + hello() + frame(12),
    "suspend-thaw": b"\x00" + hello() + frame(18) + frame(19),
    "suspend-reseed": b"\x00" + hello() + frame(18) + reseed(),
    "poweroff": b"\x00" + hello() + frame(16),
    "stdin-early": b"\x00" + hello() + frame(3, b"x") + frame(4) + frame(9, struct.pack("<i", 9)),
    "cut": b"\x00" + hello() + reseed()[:50],
    "bad-flags": b"\x00" + hello() + b"\x00\x00\x00\x00\x0e\x01\x00\x00",
}

for folder, seeds in (("agent_wire_host", HOST), ("agent_wire_guest", GUEST)):
    target = CORPUS / folder
    target.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (target / name).write_bytes(data)
