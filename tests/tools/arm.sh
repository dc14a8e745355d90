#!/bin/bash
# Runs nphybrid on an emulated Arm processor (aarch64). The emulator is QEMU's user mode, and the system is Debian 12.
#
#     bash tests/tools/arm.sh FOLDER                              # creates the system, then runs doctor and classify
#     bash tests/tools/arm.sh FOLDER tests/ops/test_tile.py …     # and then these test files
#     NPHYBRID_ISA=plain bash tests/tools/arm.sh FOLDER …         # with different kernels
#
# The system is created in FOLDER, which then has 1 GB and can be deleted. Later runs use it again, with the present
# files of the checkout. Every test file runs in its own process, and its time is printed. All variables NPHYBRID_* and
# NUMBA_* are passed on: NUMBA_CPU_NAME=neoverse-n1 compiles the kernels for this processor.
#
# The script needs root on Debian (x86-64). It installs QEMU, and registers QEMU in Linux as the interpreter of
# aarch64 programs. MIRROR can name a different Debian mirror. The speed of an emulated kernel says nothing about the
# speed of the kernel on an Arm processor.
set -euo pipefail
ROOT=$(realpath -m "${1:?expected the folder of the emulated system}")
shift
cd "$(dirname "$0")/../.."

install_emulator() {
    if [ ! -x /usr/bin/qemu-aarch64-static ] || ! command -v debootstrap > /dev/null; then
        apt-get update -q
        apt-get install -y -q --no-install-recommends qemu-user-static debootstrap
    fi
    # Linux then runs every aarch64 program in the emulator, also the processes that a test starts. With the flag F, Linux
    # opens the emulator now. Without F, Linux would look for the emulator inside ROOT.
    local formats=/proc/sys/fs/binfmt_misc
    local header='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    mountpoint -q $formats || mount -t binfmt_misc binfmt_misc $formats
    [ -e $formats/qemu-aarch64 ] ||
        printf '%s' ":qemu-aarch64:M::$header:$mask:/usr/bin/qemu-aarch64-static:FPC" > $formats/register
}

# Debian with Python 3.11. The packages are unpacked, but not configured, because that would be emulated.
create_system() {
    debootstrap --foreign --arch=arm64 --variant=minbase --include=python3 bookworm "$ROOT" \
        "${MIRROR:-http://deb.debian.org/debian}"
    for package in "$ROOT"/var/cache/apt/archives/*.deb; do
        dpkg -x "$package" "$ROOT"
    done
}

# The pip of this computer installs wheels for aarch64.
install_packages() {
    local platforms=(manylinux2014 manylinux_2_17 manylinux_2_26 manylinux_2_27 manylinux_2_28 manylinux_2_34)
    platforms=("${platforms[@]/#/--platform=}")
    python3 -m pip install -q --target "$ROOT/usr/lib/python3/dist-packages" --upgrade --no-compile \
        --only-binary=:all: "${platforms[@]/%/_aarch64}" --python-version 3.11 --implementation cp "$@"
}

# A command in the emulated system. proc, dev and sys are mounted for this command only.
in_arm() {
    local variables
    mapfile -t variables < <(env | grep -E '^(NPHYBRID|NUMBA)_' || true)
    unshare --mount --propagation private bash -c '
        for name in proc dev sys; do
            mount --rbind /$name "$0/$name"
        done
        exec chroot "$0" "$@"' "$ROOT" \
        /usr/bin/env -i --chdir=/checkout PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 NPHYBRID_TEST_TIME_FACTOR=20 \
        "${variables[@]}" "$@"
}

install_emulator
if [ ! -e "$ROOT/complete" ]; then
    create_system
    install_packages 'numpy>=2.0' 'numba>=0.61' 'pillow>=10.3' 'h5py>=3.16' pytest pytest-xdist hypothesis safetensors
    touch "$ROOT/complete"
fi
rm -rf "$ROOT/checkout"
mkdir "$ROOT/checkout"
git ls-files -z | tar --create --null --files-from=- | tar --extract --directory="$ROOT/checkout"

in_arm python3 -m nphybrid doctor
time in_arm python3 -m nphybrid classify examples/images/cat.png
failed=0
for tests in "$@"; do
    echo "== $tests"
    time in_arm python3 -m pytest -q -n 0 -p no:cacheprovider --durations=5 "$tests" || failed=1
done
exit $failed
