"""Debian guests for the judges: disks from tools/image-debian, a console that is talked to, and the same disk
as a tree on the host."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RUCHE = Path(os.environ.get('RUCHE', ROOT / 'build/release/ruche'))
WORK = ROOT / 'build/judge'
PROMPT = r'root@debian:\S*# '

# A busy machine is no failure: units and devices may take their time, and the host may stop all for a while.
PATIENT = 'systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900 ' \
    'watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=240'


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)) # the guests end with the judge


class GuestError(Exception):
    pass


def image(packages):
    """The folder with disk.raw, vmlinuz and initrd.img of a Debian with these packages."""
    args = ['--with', ','.join(packages)] if packages else []
    p = subprocess.run([ROOT / 'tools/image-debian', *args], stdout=subprocess.PIPE, text=True, check=True)
    return Path(p.stdout.strip().splitlines()[-1])


def tree(folder):
    """The image's /usr and /etc as a tree that chroot can enter."""
    root = folder / 'tree'
    if not root.exists():
        new = folder / 'tree.new'
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        subprocess.run(['debugfs', '-R', f'rdump /usr /etc {new}', folder / 'disk.raw'], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env={**os.environ, 'PATH': os.environ['PATH'] + ':/sbin:/usr/sbin'})
        for name in ('bin', 'sbin', 'lib', 'lib64'):
            (new / name).symlink_to('usr/' + name)
        for name in ('dev', 'root', 'tmp', 'proc'):
            (new / name).mkdir()
        (new / 'dev/null').touch(0o666)
        new.rename(root)
    return root


def chroot(root, *command):
    """Runs a command in the tree; as an ordinary user in a namespace of its own."""
    enter = ['chroot'] if os.geteuid() == 0 else ['unshare', '--map-root-user', 'chroot']
    return subprocess.run([*enter, root, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True,
                          env={'PATH': '/usr/bin:/usr/sbin:/bin:/sbin', 'HOME': '/root', 'LC_ALL': 'C'})


def pack(path, files):
    """A tar, padded to sectors, that a guest reads from a disk. files: name in it to file on the host."""
    with tarfile.open(path, 'w') as t:
        for name, source in files.items():
            t.add(source, name)


class Guest:
    """A Debian that boots from a disk of its own, with a root shell on its serial port."""

    def __init__(self, folder, where, accel='bt', cpus=1, memory='1G', disks=(), options=()):
        """folder: of image(); where: for the disk and the console's text; disks: (file, readonly)."""
        where.mkdir(parents=True, exist_ok=True)
        self.disk = where / 'disk.raw'
        subprocess.run(['cp', '--sparse=always', '--reflink=auto', folder / 'disk.raw', self.disk], check=True)
        more = []
        for path, readonly in disks:
            more += ['--disk', f'{path}{",readonly" if readonly else ""}']
        self.text, self.seen = '', 0
        self.log = open(where / 'console.log', 'w', encoding='utf-8')
        self.changed = threading.Condition()
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [RUCHE, 'run', '--accel', accel, '--cpus', str(cpus), '--memory', memory, '--kernel', folder / 'vmlinuz',
             '--initrd', folder / 'initrd.img', '--append', 'root=/dev/vda rw console=ttyS0 quiet ' + PATIENT, '--no-reboot',
             '--disk', self.disk, *more, '--net', 'user', *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while data := os.read(self.process.stdout.fileno(), 65536):
            text = data.decode(errors='replace').replace('\r', '')
            self.log.write(text)
            self.log.flush()
            with self.changed:
                self.text += text
                self.changed.notify_all()
        with self.changed:
            self.text += '\n=== the VM has ended\n'
            self.changed.notify_all()

    def wait(self, pattern, timeout):
        """Waits for text behind what was found last; returns the match."""
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                m = re.compile(pattern).search(self.text, self.seen)
                if m:
                    self.seen = m.end()
                    return m
                if '=== the VM has ended' in self.text:
                    raise GuestError('the VM has ended')
                left = end - time.monotonic()
                if left <= 0:
                    raise GuestError(f'no {pattern!r} within {timeout} s')
                self.changed.wait(left)

    def send(self, line):
        self.process.stdin.write(line.encode() + b'\n')
        self.process.stdin.flush()

    def login(self, timeout=300):
        """Until the shell answers; seconds since the start."""
        self.wait(PROMPT, timeout)
        self.send("stty -echo; PS1=; bind 'set enable-bracketed-paste off'")
        self.run('dmesg -n 4', 60)
        return time.monotonic() - self.started

    def run(self, command, timeout):
        """(status, what it said) of one command line."""
        self.send(f'{command}; echo "=""== status $?"')
        start = self.seen
        m = self.wait(r'=== status (\d+)\n', timeout)
        return int(m.group(1)), self.text[start:m.start()]

    def kernel_complaints(self):
        """What the kernel should never say."""
        return re.findall(r'^.*(?:BUG:|WARNING:|Oops|Call Trace|soft lockup|rcu: INFO|general protection|'
                          r'segfault at|invalid opcode|double fault|blocked for more than|as unstable).*$', self.text, re.M)

    def poweroff(self, timeout=120):
        self.send('dmesg -n 6; dmesg --level=emerg,alert,crit,err,warn; poweroff')
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GuestError(f'has not powered off within {timeout} s') from None
        self.thread.join(10)
        if self.process.returncode:
            raise GuestError(f'exit status {self.process.returncode}')

    def close(self):
        """Ends the VM if it still runs. Its disk goes."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.thread.join(10)
        self.process.stdin.close()
        self.log.close()
        self.disk.unlink(missing_ok=True)

    def tail(self, lines=15):
        return ['  | ' + x for x in self.text.splitlines()[-lines:]]
