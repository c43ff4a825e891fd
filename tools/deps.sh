#!/bin/sh
# Installs the Debian packages that a task needs and that are missing; silent when all are there.
# usage: tools/deps.sh [--list] SET...      sets: build run check bench coverage guests
#        tools/deps.sh --lists              only refresh apt's package lists
# Of the set guests, only what this version of Debian has is wanted: the tests skip the others.
set -eu

packages_of() {
    case $1 in
    build) echo "gcc libc6-dev make meson ninja-build pkgconf python3-minimal scdoc libcmocka-dev \
        libzydis-dev liburing-dev libjansson-dev libslirp-dev libglib2.0-dev libseccomp-dev \
        libcap-ng-dev libzstd-dev liblz4-dev zlib1g-dev libnbd-dev liblzma-dev libbz2-dev libssl-dev libisal-dev" ;;
    run) echo "mmdebstrap e2fsprogs debian-archive-keyring apt uidmap fakechroot fakeroot zstd util-linux \
        fdisk mtools grub-common grub-pc-bin grub-efi-amd64-bin curl" ;;
    check) echo "procps nbdkit clang clang-format clang-tidy cppcheck libclang-rt-14-dev busybox-static cpio kmod zstd \
        nasm binutils python3 gdb seabios ovmf grub-common grub-pc-bin xorriso \
        grub-efi-amd64-bin mtools dosfstools e2fsprogs qemu-utils" ;;
    bench) echo "qemu-system-x86 fio qemu-utils mmdebstrap cpio kmod gcc libc6-dev python3 gzip bzip2 xz-utils zstd util-linux \
        busybox-static" ;;
    coverage) echo "gcovr" ;;
    guests) echo "grub-rescue-pc memtest86+ ipxe ipxe-qemu u-boot-qemu grub-invaders gnumach-image-1.8-486 \
        xen-hypervisor-4.17-amd64 debian-installer-12-netboot-amd64 debian-installer-12-netboot-i386 \
        isolinux syslinux syslinux-common pxelinux refind systemd-boot-efi shim-signed grub-efi-amd64-signed" ;;
    *) echo "deps.sh: no such set: $1 (build run check bench coverage guests)" >&2; exit 2 ;;
    esac
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

apt() {
    echo "==> $sudo apt-get $*"
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$log" 2>&1
}

refresh_lists() {
    apt update || {
        cat "$log" >&2
        echo "deps.sh: apt-get update failed; see above" >&2
        exit 1
    }
}

known_of() {
    # shellcheck disable=SC2086
    apt-cache policy $1 2>/dev/null |
        awk '/^[^ ]/ { sub(":$", ""); p = $1 } /Candidate: [0-9]/ { printf " %s", p }'
}

if [ "${1:-}" = --lists ]; then
    refresh_lists
    exit 0
fi
list_only=no
if [ "${1:-}" = --list ]; then
    list_only=yes
    shift
fi
wanted=
for set in "$@"; do
    wanted="$wanted $(packages_of "$set")"
done
if [ "$list_only" = yes ]; then
    printf '%s\n' $wanted | sort -u
    exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "deps.sh: this is not a Debian system; taking for granted that these are installed:" $wanted >&2
    exit 0
fi
missing=
installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' $wanted 2>/dev/null || true)
for p in $wanted; do
    case "
$installed
" in
    *"
$p installed
"*) ;;
    *) case " $missing " in *" $p "*) ;; *) missing="$missing $p" ;; esac ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ "$*" = guests ]; then
    known=$(known_of "$missing")
    if [ -z "$known" ]; then # a fresh machine has no package lists
        refresh_lists
        known=$(known_of "$missing")
    fi
    missing=$known
    [ -n "$missing" ] || exit 0
fi
if [ -n "$sudo" ] && ! command -v sudo >/dev/null; then
    echo "deps.sh: missing packages:$missing" >&2
    echo "deps.sh: install them as root: apt-get install$missing" >&2
    exit 1
fi
echo "==> installing what is missing (once):$missing"
# The first try uses the package lists that are there; a fresh machine has none, an old one stale ones.
# shellcheck disable=SC2086
if ! apt install --no-install-recommends $missing; then
    refresh_lists
    apt install --no-install-recommends $missing || {
        cat "$log" >&2
        echo "deps.sh: apt-get could not install$missing; see above" >&2
        exit 1
    }
fi
