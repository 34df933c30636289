#!/usr/bin/env python3
"""Writes the seed corpus of the module index: excerpts in the form of depmod's files.

Run from anywhere; overwrites the files it names and leaves others (findings, minimised inputs) alone.
"""
import pathlib

TARGET = pathlib.Path(__file__).resolve().parent / "corpus" / "module_index"

DEP = """kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_mmio.ko.xz: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/lib/libcrc32c.ko:
kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko
kernel/arch/x86/crypto/crc32c-intel.ko:
"""
SOFT = "softdep libcrc32c pre: crypto-crc32c post: erofs\nalias crypto-crc32c crc32c_intel\nalias pci:v* x\n"
SEEDS = {
    "chain": (DEP, "kernel/fs/ext4/ext4.ko\n", "virtio_mmio\next4"),
    "soft": (DEP + SOFT, "", "erofs\nvirtio-ring"),
    "missing": (DEP, "", "nbd"),
    "circle": ("a.ko: b.ko\nb.ko: a.ko\n", "", "a"),
    "soft-circle": ("a.ko: b.ko\nb.ko:\nsoftdep b pre: a\n", "", "b\na"),
    "wanted": (DEP + SOFT, "", "virtio\n?erofs\n?nowhere"),
    "outside": ("../a.ko: b.ko\n", "", "a"),
    "absolute": ("/a.ko:\n", "", "a"),
    "devname": ("# comment\nautofs4 autofs c10:235\n\n", "a.ko\n", "a"),
}

TARGET.mkdir(parents=True, exist_ok=True)
for name, parts in SEEDS.items():
    (TARGET / name).write_text("\0".join(parts))
