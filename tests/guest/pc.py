"""What the guests under tests/guest/* share: a PC as the test describes it, started under Ruche or beside it under
QEMU's TCG; its screen read as text, its keys pressed, its serial port; TAP on stdout, or times side by side.

A guest's folder has a `run` that makes Guests and hands them to main():
    run [ACCEL...]       TAP, under each accelerator (bt)
    run --beside [TEXT]  a Markdown row per guest (of which TEXT is in the name): under Ruche and under TCG, seconds to
                         success and, in brackets, those of the processors
"""
import argparse
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RUCHE = ROOT / 'build/release/ruche'
LIMIT = 180  # seconds; generous: the machine may be busy
OVMF = Path('/usr/share/OVMF')
POLL = 0.03

# QEMU's names of keys, and X's keysyms of them; a letter or a digit is its own
KEYS = {'ret': 0xff0d, 'esc': 0xff1b, 'tab': 0xff09, 'down': 0xff54, 'up': 0xff52, 'left': 0xff51, 'right': 0xff53,
        'spc': 0x20, 'ctrl': 0xffe3, 'minus': 0x2d, 'dot': 0x2e, 'slash': 0x2f, 'comma': 0x2c,
        **{f'f{n}': 0xffbd + n for n in range(1, 13)}}


class Guest:
    """A PC and what is to happen on it. `steps` are callables given the running machine: wait(), press(), send().
    None is what ends it well unless `status`: then the VMM has to end with that exit status by itself. net: True, or
    the card's model and options of user networking that both VMMs know (e1000,tftp=DIR,bootfile=FILE)."""

    def __init__(self, name, steps, *, firmware=None, disks=(), bus='virtio', cdrom=None, floppy=None, kernel=None,
                 initrd=None, append=None, memory='128M', cpus=1, net=False, status=None, tcg_cpu='max',
                 pixels=False, options=()):
        self.name, self.steps, self.firmware, self.disks, self.bus = name, steps, firmware, disks, bus
        self.floppy = floppy
        self.cdrom, self.kernel, self.initrd, self.append = cdrom, kernel, initrd, append
        self.memory, self.cpus, self.net, self.status, self.tcg_cpu, self.options = \
            memory, cpus, net, status, tcg_cpu, options
        self.pixels = pixels


def wait(*texts):
    """Until all of them are on the screen or have come through the serial port."""
    return lambda machine: machine.wait(texts)


def press(*keys):
    return lambda machine: [machine.press(k) for k in keys]


def send(text):
    """Through the serial port."""
    return lambda machine: machine.send(text)


def look(check):
    """At the pixels: check(width, height, lines of RGB bytes) says what is wrong, or nothing. The Guest has to have
    `pixels`; TCG's are not looked at."""
    return lambda machine: machine.look(check)


class Failure(Exception):
    pass


class Machine:
    """A VMM's process: its standard streams are the guest's serial port."""

    def __init__(self, command):
        self.start = time.monotonic()
        self.serial = ''
        self.vmm = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT)
        os.set_blocking(self.vmm.stdout.fileno(), False)

    def read_serial(self):
        self.serial += (self.vmm.stdout.read() or b'').decode(errors='replace')
        return self.serial

    def text(self):
        return re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', self.read_serial()) + '\n' + self.screen()

    def wait(self, texts):
        end = time.monotonic() + LIMIT
        text = self.text()
        while not all(t in text for t in texts):
            if self.vmm.poll() is not None:
                raise Failure(f'the VMM has ended with status {self.vmm.returncode}; no ' + self.lacks(texts))
            if time.monotonic() > end:
                raise Failure(f'after {LIMIT} s no ' + self.lacks(texts))
            time.sleep(POLL)
            text = self.text()

    def lacks(self, texts):
        seen = self.text()
        return ', no '.join(f'"{t}"' for t in texts if t not in seen)

    def send(self, text):
        self.vmm.stdin.write(text.encode())
        self.vmm.stdin.flush()

    def cpu_seconds(self):
        """Of the VMM and its children until now."""
        family, total = [self.vmm.pid], 0
        for pid in family:
            try:
                family += map(int, Path(f'/proc/{pid}/task/{pid}/children').read_text().split())
                total += sum(map(int, Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[11:13]))
            except OSError:
                pass
        return total / os.sysconf('SC_CLK_TCK')

    def end(self, status):
        """Lets it end by itself if it is to have a status; else ends it."""
        if status is None:
            if self.vmm.poll() is None:
                self.vmm.terminate()
        try:
            self.vmm.wait(LIMIT if status is not None else 20)
        except subprocess.TimeoutExpired:
            self.vmm.kill()
            self.vmm.wait()
            raise Failure('the VMM does not end') from None
        self.read_serial()
        if status is not None and self.vmm.returncode != status:
            raise Failure(f'exit status {self.vmm.returncode}, not {status}')


class Ruche(Machine):
    def __init__(self, guest, folder, accel='bt'):
        self.file = folder / ('screen.png' if guest.pixels else 'screen.txt')
        self.vnc, self.viewer, self.seen = folder / 'vnc', None, ''
        args = ['--accel', accel, '--memory', guest.memory, '--cpus', guest.cpus, '--net',
                f'user,model={guest.net}' if isinstance(guest.net, str) else 'user' if guest.net else 'none', '--display', f'vnc=unix:{self.vnc}', '--screenshot', self.file]
        for k in ('firmware', 'cdrom', 'floppy', 'kernel', 'initrd', 'append'):
            if getattr(guest, k):
                args += [f'--{k}', getattr(guest, k)]
        for d in guest.disks:
            args += ['--disk', d if guest.bus == 'virtio' else f'{d},bus={guest.bus}']
        super().__init__([RUCHE, 'run', *args, *guest.options])

    def look(self, check):
        """The picture is drawn while the guest draws: the last one counts."""
        end = time.monotonic() + 5
        wrong = 'no picture'
        while wrong and time.monotonic() < end:
            self.vmm.send_signal(signal.SIGUSR1)
            time.sleep(0.2)
            if self.file.exists() and self.file.stat().st_size:
                wrong = check(*read_png(self.file))
        if wrong:
            raise Failure(wrong)

    def screen(self):
        if self.file.suffix == '.png':
            return ''
        if self.vmm.poll() is None and self.vnc.exists():  # by then it knows the signal
            self.vmm.send_signal(signal.SIGUSR1)
        if self.file.exists():  # it may be about to be written
            self.seen = self.file.read_text(errors='replace') or self.seen
        return self.seen

    def press(self, key):
        """One key after the other, as the guest can take them."""
        while not self.vnc.exists() and self.vmm.poll() is None:
            time.sleep(POLL)
        if not self.viewer:
            self.viewer = self.greet()
        keysym = KEYS.get(key) or ord(key)
        for down in (1, 0):
            self.viewer.write(struct.pack('>BBxxI', 4, down, keysym))
            time.sleep(0.05)

    def greet(self):
        """A viewer without password, whose picture nobody asks for."""
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(LIMIT)
        s.connect(str(self.vnc))
        f = s.makefile('rwb', buffering=0)
        f.write(f.read(12))
        f.read(2)
        f.write(b'\1')
        f.read(4)
        f.write(b'\1')
        f.read(24 + 5)
        return f


class Qemu(Machine):
    """The same PC under TCG; its text is read from the memory of text mode."""

    def __init__(self, guest, folder):
        self.monitor_path, self.monitor, self.page = folder / 'monitor', None, folder / 'page'
        args = ['-accel', 'tcg', '-M', 'pc', '-cpu', guest.tcg_cpu, '-m', guest.memory, '-smp', guest.cpus, '-vga', 'std',
                '-display', 'none', '-serial', 'stdio', '-monitor', f'unix:{self.monitor_path},server=on,wait=off',
                '-nic', 'none', *self.network(guest.net)]
        if guest.firmware == 'uefi':
            shutil.copy(OVMF / 'OVMF_VARS_4M.fd', folder / 'vars.fd')
            for unit, file in enumerate((OVMF / 'OVMF_CODE_4M.fd,readonly=on', folder / 'vars.fd')):
                args += ['-drive', f'if=pflash,unit={unit},format=raw,file={file}']
        elif guest.firmware not in (None, 'bios', 'auto'):
            args += ['-bios', guest.firmware]
        for k in ('cdrom', 'kernel', 'initrd', 'append'):
            if getattr(guest, k):
                args += [f'-{k}', getattr(guest, k)]
        for i, d in enumerate(guest.disks):
            if guest.bus in ('nvme', 'ahci', 'scsi'):
                args += ['-drive', f'file={d},format=raw,if=none,id=d{i}', *{
                    'nvme': ['-device', f'nvme,drive=d{i},serial={i}'],
                    'scsi': ['-device', f'virtio-scsi-pci,id=s{i}', '-device', f'scsi-hd,drive=d{i},bus=s{i}.0'],
                    'ahci': ['-device', f'ich9-ahci,id=a{i}', '-device', f'ide-hd,drive=d{i},bus=a{i}.0']}[guest.bus]]
            else:
                args += ['-drive', f'file={d},format=raw,if={guest.bus}']
        if guest.floppy:
            args += ['-drive', f'file={guest.floppy},format=raw,if=floppy']
        if '--debug-exit' in guest.options:
            args += ['-device', 'isa-debug-exit,iobase=0xf4,iosize=4']
        if 'menu' in guest.options:
            args += ['-boot', 'menu=on']
        if '--no-reboot' in guest.options:
            args += ['-no-reboot']
        super().__init__(['qemu-system-x86_64', *args])

    @staticmethod
    def network(net):
        model, _, options = (net if isinstance(net, str) else 'virtio-net-pci').partition(',')
        rom = '' if isinstance(net, str) else ',romfile='
        return ['-netdev', f'user,id=n{options and "," + options}', '-device', f'{model},netdev=n{rom}'] if net else []

    def command(self, text):
        if not self.monitor:
            while not self.monitor_path.exists() and self.vmm.poll() is None:
                time.sleep(POLL)
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(20)
            s.connect(str(self.monitor_path))
            self.monitor = s.makefile('rwb', buffering=0)
            self.answer()
        self.monitor.write(text.encode() + b'\n')
        self.answer()

    def answer(self):
        got = b''
        while not got.endswith(b'(qemu) '):
            more = self.monitor.read(4096)
            if not more:
                return
            got += more

    def screen(self):
        try:
            self.command(f'pmemsave 0xb8000 4000 "{self.page}"')
            cells = self.page.read_bytes()[::2].decode('cp437').replace('\0', ' ')
        except OSError:
            return ''
        return '\n'.join(cells[i:i + 80].rstrip() for i in range(0, len(cells), 80))

    def press(self, key):
        self.command(f'sendkey {key}')
        time.sleep(0.1)

    def look(self, check):
        pass


def attempt(guest, machine_class, *args):
    """(seconds to the last step, of them the processors', problems)"""
    with tempfile.TemporaryDirectory(prefix='ruche-pc-') as folder:
        machine = machine_class(guest, Path(folder), *args)
        problems, cpu = [], 0.0
        try:
            for step in guest.steps:
                step(machine)
            cpu = machine.cpu_seconds()
            if guest.status is not None:
                machine.end(guest.status)
            seconds = time.monotonic() - machine.start
            if guest.status is None:
                machine.end(None)
        except (Failure, OSError) as e:
            seconds = time.monotonic() - machine.start
            problems = [str(e), *('  | ' + x for x in machine.text().replace('\r', '').splitlines()[-30:] if x.strip())]
            machine.vmm.kill()
            machine.vmm.wait()
        return seconds, cpu, problems


def read_png(path):
    """(width, height, pixels) of a PNG as Ruche writes them: RGB, lines without a filter."""
    data, at, packed = path.read_bytes(), 8, b''
    while at < len(data):
        length, kind = struct.unpack('>I4s', data[at:at + 8])
        if kind == b'IHDR':
            width, height = struct.unpack('>II', data[at + 8:at + 16])
        if kind == b'IDAT':
            packed += data[at + 8:at + 8 + length]
        at += length + 12
    raw, line = zlib.decompress(packed), 1 + 3 * width
    assert len(raw) == line * height and not any(raw[::line]), 'a PNG of another kind'
    return width, height, [raw[y * line + 1:(y + 1) * line] for y in range(height)]


def rescue_cd(folder, name, config, *files):
    """A CD that GRUB boots from the BIOS: its menu file, and files for /boot."""
    tree = folder / f'{name}.tree'
    (tree / 'boot/grub').mkdir(parents=True)
    (tree / 'boot/grub/grub.cfg').write_text('serial\nterminal_output console serial\n' + config + '\nboot\n')
    for f in files:
        shutil.copy(f, tree / 'boot')
    iso = folder / f'{name}.iso'
    subprocess.run(['grub-mkrescue', '-o', iso, tree, '-d', '/usr/lib/grub/i386-pc'], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return iso


def missing(needs):
    """Packages of {file or program: package} that are not there."""
    return sorted({p for f, p in needs.items() if not (Path(f).exists() if '/' in f else shutil.which(f))})


BIOS = {'/usr/share/seabios/bios-256k.bin': 'seabios'}
UEFI = {str(OVMF / 'OVMF_CODE_4M.fd'): 'ovmf'}
GRUB_CD = {'grub-mkrescue': 'grub-common', '/usr/lib/grub/i386-pc': 'grub-pc-bin', 'xorriso': 'xorriso',
           'mformat': 'mtools', **BIOS}


def main(make, needs):
    """make(folder) gives the Guests; what needs names has to be installed for it."""
    os.environ['PATH'] += ':/sbin:/usr/sbin'
    ap = argparse.ArgumentParser()
    ap.add_argument('--beside', nargs='?', const='', metavar='TEXT')
    ap.add_argument('accel', nargs='*', default=['bt'])
    args = ap.parse_args()
    lacking = missing(needs)
    if lacking:
        print(f'ok 1 - guest # SKIP not installed: {" ".join(lacking)}\n1..1')
        return
    with tempfile.TemporaryDirectory(prefix='ruche-guest-') as folder:
        guests = make(Path(folder))
        if args.beside is not None:
            compare([g for g in guests if args.beside in g.name])
        else:
            sys.exit(test(guests, args.accel))


def test(guests, accels):
    number = failed = 0
    for accel in accels:
        for g in guests:
            seconds, _, problems = attempt(g, Ruche, accel)
            number += 1
            failed += bool(problems)
            print(f'{"not " if problems else ""}ok {number} - {g.name} ({accel}) # {seconds:.2f} s', flush=True)
            for p in problems:
                print(f'# {p}')
    print(f'1..{number}')
    return 1 if failed else 0


def compare(guests):
    for g in guests:
        cells = []
        for kind in (Ruche, Qemu):
            seconds, cpu, problems = attempt(g, kind)
            cells.append('no' if problems else f'{seconds:.1f} ({cpu:.1f})')
            for p in problems:
                print(f'# {kind.__name__}: {p}', file=sys.stderr)
        print(f'| {g.name} | {cells[0]} | {cells[1]} |', flush=True)
