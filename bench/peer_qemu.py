#!/usr/bin/env python3
"""A restored QEMU machine beside a fork of Ramet's, alternating, each from its command to the guest's first reply.

QEMU's machine is its microvm with one serial port and nothing else: a kernel and an init that sends back what it gets
(peer_init.c). It is booted once and saved by migration into files. For each run a QEMU process is started ahead with
`-incoming defer`; its time begins with migrate-incoming and ends when the guest has sent back one byte. Its images:
  mapped     device state alone in the file; memory is a private mapping of the file that the saved machine had as RAM
  stream     state and memory in one file
Ramet's are those of fork_on_request: a Debian guest with its agent, disk, fresh randomness and identity, acknowledged.
Every file is in the page cache, written just before; the bar is on QEMU's faster way.
"""
import argparse
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time

# docs/specification.md: the least that QEMU's time is over Ramet's.
PEER_BAR = 3.0
BOOT_SECONDS = 240
REPLY_SECONDS = 60
# Before each thing that is timed: what the one before left to do is done, such as machines made ahead.
SETTLE_SECONDS = 0.3
# The fastest found: no PIT and no PIC, an IOAPIC that the guest finds by ACPI, and that one in QEMU rather than the kernel.
MACHINE = 'microvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=on,auto-kernel-cmdline=off'
ACCELERATION = 'kvm,kernel-irqchip=split'
COMMAND_LINE = 'console=ttyS0 quiet loglevel=0 panic=-1 rdinit=/init'
IMAGES = {
    'mapped': {'x-ignore-shared': True},
    'stream': {},
}


class Failure(Exception):
    """What cannot be measured, and why."""


def cpio_entry(name, mode, data=b'', device=(0, 0), inode=0):
    """One file of an initramfs, in cpio's newc format."""
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    head = b'070701' + b''.join(b'%08X' % field for field in fields) + name.encode() + b'\0'
    return head + b'\0' * (-len(head) % 4) + data + b'\0' * (-len(data) % 4)


def initramfs(init):
    with open(init, 'rb') as file:
        program = file.read()
    return b''.join((
        cpio_entry('dev', 0o040755, inode=1),
        cpio_entry('dev/console', 0o020600, device=(5, 1), inode=2),
        cpio_entry('dev/ttyS0', 0o020600, device=(4, 64), inode=3),
        cpio_entry('init', 0o100755, program, inode=4),
        cpio_entry('TRAILER!!!', 0)))


class Qemu:
    """A QEMU process, its monitor and its guest's serial port; both are sockets that it inherits."""

    def __init__(self, program, arguments):
        monitor, its_monitor = socket.socketpair()
        self.serial, its_serial = socket.socketpair()
        start = time.monotonic()
        self.process = subprocess.Popen(
            [program, '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-accel', ACCELERATION, '-cpu', 'host',
             '-smp', '1',
             '-chardev', f'socket,id=monitor,fd={its_monitor.fileno()}', '-mon', 'chardev=monitor,mode=control',
             '-chardev', f'socket,id=serial,fd={its_serial.fileno()}', '-serial', 'chardev:serial', *arguments],
            stdin=subprocess.DEVNULL, pass_fds=(its_monitor.fileno(), its_serial.fileno()))
        its_monitor.close()
        its_serial.close()
        monitor.settimeout(REPLY_SECONDS)
        self.monitor = monitor.makefile('rw', encoding='utf-8')
        self.owned = monitor
        self.events = []
        try:
            self.next_message()  # the greeting
            self.command('qmp_capabilities')
        except BaseException:
            self.end()
            raise
        self.start_us = (time.monotonic() - start) * 1e6

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.monitor.close()
        self.owned.close()
        self.serial.close()

    def next_message(self):
        try:
            line = self.monitor.readline()
        except TimeoutError:
            raise Failure(f'QEMU said nothing for {REPLY_SECONDS} s; its last events: {self.events[-3:]}') from None
        if not line:
            raise Failure('QEMU ended')
        return json.loads(line)

    def command(self, name, **arguments):
        self.monitor.write(json.dumps({'execute': name, 'arguments': arguments}) + '\n')
        self.monitor.flush()
        while True:
            message = self.next_message()
            if 'event' in message:
                self.events.append(message)
            elif 'error' in message:
                raise Failure(f'{name}: {message["error"]["desc"]}')
            else:
                return message['return']

    def wait_event(self, name):
        while not any(event['event'] == name for event in self.events):
            message = self.next_message()
            if 'event' in message:
                self.events.append(message)

    def wait_serial(self, text, seconds):
        """Reads what the guest sends until it ends in `text`."""
        self.serial.settimeout(seconds)
        seen = b''
        try:
            while not seen.endswith(text):
                part = self.serial.recv(4096)
                if not part:
                    raise Failure(f'the guest is gone; its console ended in {seen[-300:]!r}')
                seen += part
        except TimeoutError:
            raise Failure(f'no {text!r} from the guest within {seconds} s; its console ended in {seen[-300:]!r}') from None

    def set_capabilities(self, wanted):
        self.command('migrate-set-capabilities', capabilities=[
            {'capability': 'x-ignore-shared', 'state': wanted.get('x-ignore-shared', False)}])

    def save(self, path):
        """Migrates into a file. The saved state is that of a running machine: the restored one goes on by itself."""
        self.command('migrate', uri=f'file:{path}')
        deadline = time.monotonic() + REPLY_SECONDS
        while (status := self.command('query-migrate').get('status')) != 'completed':
            if status in ('failed', 'cancelled') or time.monotonic() > deadline:
                raise Failure(f'saving the machine: {status}')
            time.sleep(0.05)


def machine_with(options, backend):
    """A machine's memory is found in an image by its backend's id."""
    return ['-object', f'{backend},id=ram,size={options.memory_mib}M', '-m', f'{options.memory_mib}M',
            '-M', f'{MACHINE},memory-backend=ram']


def memory_file(directory, shared):
    return f'memory-backend-file,mem-path={os.path.join(directory, "memory")},share={shared}'


def boot_and_save(options, directory):
    archive = os.path.join(directory, 'initramfs')
    with open(archive, 'wb') as file:
        file.write(initramfs(options.init))
    boot = ['-kernel', os.path.join(options.kernel_tree, 'vmlinuz'), '-initrd', archive, '-append', COMMAND_LINE]
    start = time.monotonic()
    with Qemu(options.qemu, machine_with(options, memory_file(directory, 'on')) + boot) as machine:
        machine.wait_serial(b'ready\n', BOOT_SECONDS)
        print(f'QEMU: its guest booted in {time.monotonic() - start:.1f} s', flush=True)
        # The mapped image last: its memory is what the machine leaves behind.
        for name in sorted(IMAGES, key=lambda name: name == 'mapped'):
            machine.set_capabilities(IMAGES[name])
            machine.save(os.path.join(directory, name))
            if name != 'mapped':
                machine.command('cont')


def restore(options, directory, image):
    """(QEMU's start, a command alone, from migrate-incoming to the reply), in microseconds."""
    backend = memory_file(directory, 'off') if image == 'mapped' else 'memory-backend-ram'
    with Qemu(options.qemu, machine_with(options, backend) + ['-incoming', 'defer']) as machine:
        machine.set_capabilities(IMAGES[image])
        time.sleep(SETTLE_SECONDS)
        asked = time.monotonic()
        machine.command('query-status')
        start = time.monotonic()
        machine.command('migrate-incoming', uri=f'file:{os.path.join(directory, image)}')
        machine.wait_event('RESUME')
        machine.serial.sendall(b'!')
        machine.wait_serial(b'!', REPLY_SECONDS)
        return machine.start_us, (start - asked) * 1e6, (time.monotonic() - start) * 1e6


class Ramet:
    """bench/fork_on_request."""

    def __init__(self, options):
        command = [options.fork_program, '--memory-mib', str(options.memory_mib), '--kernel-tree', options.kernel_tree,
                   '--rootfs', options.rootfs, '--scratch-directory', options.scratch_directory]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failure('fork_on_request ended')
        return line.strip()

    def wait_ready(self):
        if (line := self.line()) != 'ready':
            raise Failure(f'fork_on_request said {line}')

    def fork(self, request):
        time.sleep(SETTLE_SECONDS)
        self.process.stdin.write(request + '\n')
        self.process.stdin.flush()
        return float(self.line())

    def end(self):
        self.process.stdin.close()
        return self.process.wait()


def quantile(samples, q):
    return sorted(samples)[max(0, math.ceil(q * len(samples)) - 1)]


def row(metric, a, b=(), bar=None):
    ratios = [quantile(a, q) / quantile(b, q) if b else None for q in (0.5, 0.99)]
    return {'metric': metric, 'unit': 'us', 'a': list(a), 'b': list(b), 'bar': bar, 'ratio': ratios[0],
            'p99_bar': None, 'p99_ratio': ratios[1]}


def measure(options, directory):
    ramet = Ramet(options)
    ramet.wait_ready()
    boot_and_save(options, directory)
    starts, commands, restores, forks = [], [], {name: [] for name in IMAGES}, {'fork': [], 'fork-new': []}
    for run in range(options.runs + 1):
        taken = {image: restore(options, directory, image) for image in IMAGES}
        forked = {request: ramet.fork(request) for request in forks}
        if run == 0:  # warms caches
            continue
        for image, (start, command, reply) in taken.items():
            starts.append(start)
            commands.append(command)
            restores[image].append(reply)
        for request, took in forked.items():
            forks[request].append(took)
    if ramet.end() != 0:
        raise Failure('fork_on_request failed')
    best = min(IMAGES, key=lambda image: quantile(restores[image], 0.5))
    rows = [row(f'first reply, QEMU {image} over a fork' + (', bar is a minimum' if image == best else ''),
                restores[image], forks['fork'], PEER_BAR if image == best else None) for image in IMAGES]
    rows.append(row(f'first reply, QEMU {best} over a fork, none made ahead', restores[best], forks['fork-new']))
    rows.append(row('start of the QEMU process, to its monitor', starts))
    rows.append(row('query-status, what this program and the monitor take', commands))
    return rows


def table(rows):
    def cell(samples, q):
        return f'{quantile(samples, q):12.1f}' if samples else f'{"n/a":>12}'
    lines = [f'{"":60}{"qemu p50":>12}{"qemu p99":>12}{"ramet p50":>12}{"ramet p99":>12}{"ratio":>8}{"bar":>6}']
    for entry in rows:
        cells = ''.join(cell(entry[side], q) for side in 'ab' for q in (0.5, 0.99))
        ratio, bar = ('' if entry[key] is None else f'{entry[key]:.2f}' for key in ('ratio', 'bar'))
        lines.append(f'{entry["metric"] + " [us]":60}{cells}{ratio:>8}{bar:>6}')
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kernel-tree', required=True, help='unpacked kernel package, of both guests')
    parser.add_argument('--rootfs', required=True, help="root image of Ramet's guest")
    parser.add_argument('--memory-mib', type=int, default=128, help='of each guest (%(default)s)')
    parser.add_argument('--fork-program', required=True, help='fork_on_request')
    parser.add_argument('--init', required=True, help='peer_init')
    parser.add_argument('--qemu', default='qemu-system-x86_64')
    parser.add_argument('--scratch-directory', default='/var/tmp', help="for QEMU's images and the forks' disks (%(default)s)")
    parser.add_argument('--runs', type=int, default=30, help='of each (%(default)s)')
    parser.add_argument('--json', help='also write every sample to this file')
    options = parser.parse_args()
    if options.runs < 1:
        parser.error('--runs is at least 1')
    try:
        with tempfile.TemporaryDirectory(dir=options.scratch_directory) as directory:
            rows = measure(options, directory)
    except (Failure, OSError) as error:
        print(f'peer_qemu: {error}', file=sys.stderr)
        return 1
    print(f'a machine of {options.memory_mib} MiB to its first reply, {options.runs} of each, alternating\n{table(rows)}')
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as file:
            json.dump({'bench': 'peer', 'rows': rows}, file, indent=1)
    return 1 if any(entry['bar'] is not None and entry['ratio'] < entry['bar'] for entry in rows) else 0


if __name__ == '__main__':
    sys.exit(main())
