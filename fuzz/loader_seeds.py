#!/usr/bin/env python3
"""Writes the seed corpora of the loader's fuzz targets: small synthetic kernels and initrds.

Run from anywhere; overwrites the files it names and leaves others (findings, minimised inputs) alone.
"""
import gzip
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def bzimage(setup_sects=1, payload=0x400, version=0x020F, xloadflags=1, alignment=0x200000,
            relocatable=1, cmdline=2047, pref=0x1000000, init_size=0x100000, jump=0x6A,
            initrd_max=0x7FFFFFFF, file_payload=None):
    offset = ((setup_sects or 4) + 1) * 512
    image = bytearray(offset)

    def put(at, fmt, value):
        struct.pack_into("<" + fmt, image, at, value)

    put(0x1F1, "B", setup_sects)
    put(0x1F4, "I", payload // 16)
    put(0x1FE, "H", 0xAA55)
    put(0x200, "B", 0xEB)
    put(0x201, "B", jump)
    image[0x202:0x206] = b"HdrS"
    put(0x206, "H", version)
    put(0x211, "B", 1)
    put(0x22C, "I", initrd_max)
    put(0x230, "I", alignment)
    put(0x234, "B", relocatable)
    put(0x236, "H", xloadflags)
    put(0x238, "I", cmdline)
    put(0x258, "Q", pref)
    put(0x260, "I", init_size)
    return bytes(image) + b"\xF4" * (payload if file_payload is None else file_payload)


def elf(segments=((0x1000000, 64, 4096, 5),), entry=0x1000000, machine=62, kind=2):
    """segments: (physical address, bytes in the file, bytes in memory, flags)."""
    headers = b""
    data = b""
    start = 64 + 56 * len(segments)
    for address, in_file, in_memory, flags in segments:
        headers += struct.pack("<IIQQQQQQ", 1, flags, start + len(data), address, address, in_file,
                               in_memory, 4096)
        data += b"\xF4" * in_file
    return (b"\x7FELF\x02\x01\x01" + bytes(9) +
            struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, 0, 0, 64, 56, len(segments),
                        0, 0, 0) + headers + data)


def cpio(members=(("init", b"#!/bin/sh\n"),), trailer=True):
    archive = b""
    for name, data in list(members) + ([("TRAILER!!!", b"")] if trailer else []):
        fields = [1, 0o100755, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        archive += b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return archive


def plan(kernel, pages=0x8000, initrd=b"", command_line=b"console=ttyS0", seed=32):
    return (struct.pack("<IHHHH", pages, len(initrd), len(command_line), seed, 0) + initrd +
            command_line + kernel)


TWO_SEGMENTS = ((0x1000000, 64, 64, 5), (0x1200000, 16, 8192, 6))
SEEDS = {
    "bzimage": {
        "good": bzimage(),
        "four_setup_sectors": bzimage(setup_sects=0),
        "not_relocatable": bzimage(relocatable=0),
        "old_protocol": bzimage(version=0x020B),
        "no_64_bit_entry": bzimage(xloadflags=0),
        "cut_short": bzimage(file_payload=0x100),
        "header_only": bzimage()[:0x264],
        "short_header": bzimage(jump=0x20),
        "alignment_not_power_of_two": bzimage(alignment=3),
        "payload_before_entry": bzimage(payload=0x200),
        "no_init_size": bzimage(init_size=0),
        "no_cmdline_size": bzimage(cmdline=0),
        "magic_only": bytes(0x202) + b"HdrS",
        "empty": b"",
    },
    "elf": {
        "good": elf(),
        "two_segments": elf(TWO_SEGMENTS),
        "unsorted": elf(tuple(reversed(TWO_SEGMENTS))),
        "shared": elf(kind=3),
        "overlap": elf(((0x1000000, 64, 4096, 5), (0x1000800, 16, 16, 6))),
        "memory_less_than_file": elf(((0x1000000, 64, 32, 5),)),
        "wraps": elf(((2**64 - 4096, 64, 8192, 5),), entry=2**64 - 4096),
        "entry_outside": elf(entry=0x2000000),
        "wrong_machine": elf(machine=3),
        "no_segments": elf(()),
        "cut_short": elf()[:-32],
        "header_only": elf()[:64],
        "magic_only": b"\x7FELF",
    },
    "initrd": {
        "good": cpio(),
        "two_archives": cpio() + bytes(512) + cpio((("etc", b""), ("etc/x", b"abc"))),
        "then_gzip": cpio() + gzip.compress(cpio(), mtime=0),
        "gzip": gzip.compress(cpio(), mtime=0),
        "zstd": b"\x28\xB5\x2F\xFD" + bytes(16),
        "no_trailer": cpio(trailer=False),
        "cut_in_data": cpio((("init", bytes(100)),), trailer=False)[:-60],
        "cut_in_header": cpio()[:60],
        "no_digits": cpio().replace(b"0000000a", b"0000000g", 1),
        "no_archive": b"hello, world",
        "zeros": bytes(64),
        "place": struct.pack("<QQQ", 0x12345, 0x1000000, 0x8000000),
    },
    "load_plan": {
        "bzimage": plan(bzimage(), initrd=cpio()),
        "bzimage_no_initrd": plan(bzimage()),
        "bzimage_high_memory": plan(bzimage(), pages=0x200000, initrd=cpio()),
        "bzimage_not_relocatable": plan(bzimage(relocatable=0)),
        "bzimage_too_large": plan(bzimage(init_size=0x70000000)),
        "bzimage_low_initrd": plan(bzimage(initrd_max=0x37FFFFFF), initrd=cpio(), pages=0x80000),
        "bzimage_wraps": plan(bzimage(pref=2**64 - 1)),
        "bzimage_below_1mib": plan(bzimage(pref=0x10000, alignment=0x1000)),
        "elf": plan(elf(TWO_SEGMENTS), initrd=cpio()),
        "elf_above_memory": plan(elf(((0x80000000, 64, 64, 5),), entry=0x80000000)),
        "long_command_line": plan(bzimage(cmdline=8)),
        "no_seed": plan(elf(), seed=0),
        "seed_too_long": plan(elf(), seed=5000),
        "no_memory": plan(elf(), pages=0),
        "no_kernel": plan(b"hello"),
    },
}

for target, seeds in SEEDS.items():
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in seeds.items():
        (folder / name).write_bytes(content)
