#!/bin/sh
# Builds the guest programs into built/. The results are checked in, so nobody needs this to use them.
#
#   ./build.sh            with rustup's standard library for WebAssembly (added when missing), or, where
#                         rustup cannot fetch it, with Debian's packages
#   ./build.sh --debian   with Debian's packages in any case
#   ./build.sh --check    builds elsewhere and says what differs from built/
set -eu
cd "$(dirname "$0")"
modules="hello misbehave"       # WASI preview 1
components="netcheck sensor web" # WASI preview 2
out=built
how=rustup
check=no
for arg in "$@"; do
    case $arg in
        --debian) how=debian ;;
        --check) check=yes ;;
        *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done

target_dir=${CARGO_TARGET_DIR:-target}
export CARGO_TARGET_DIR="$target_dir"
# A cache of the workspace's compiler has nothing to say here.
unset RUSTC_WRAPPER

if [ $how = rustup ] && ! rustup target add wasm32-wasip1 wasm32-wasip2 >/dev/null 2>&1; then
    echo "rustup cannot fetch the standard library for WebAssembly; trying Debian's" >&2
    how=debian
fi

flags=
if [ $how = debian ]; then
    packages="rustc-web rust-web-src rust-web-llvm lld-19 wasi-libc"
    # shellcheck disable=SC2086
    dpkg -s $packages >/dev/null 2>&1 || apt-get install -y --no-install-recommends $packages
    libc=/usr/lib/wasm32-wasi
    # The standard library is built from source, which stable compilers allow only this way.
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
    export PATH="/usr/lib/rustlib/x86_64-unknown-linux-gnu/bin:$PATH"
    export CARGO_TARGET_WASM32_WASIP1_LINKER=wasm-ld-19
    export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-C link-self-contained=no -C link-arg=-L$libc -C link-arg=$libc/crt1-command.o -C link-arg=-lc -C link-arg=--export=__main_void"
    flags=-Zbuild-std=std,panic_abort
    # Debian 12's wasi-libc is of 2022 and knows no sockets, which both components need.
    echo "left as they are: $components (Debian's wasi-libc has no sockets; they need rustup's)" >&2
    components=
fi

if [ $check = yes ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"

# Paths of this machine do not belong into files that are checked in.
remap="--remap-path-prefix=$HOME/.cargo=cargo --remap-path-prefix=$(pwd)=samples"
build() { # target, programs
    for program in $2; do
        RUSTFLAGS="$remap ${3:-}" cargo build --quiet --locked --release $flags --target "$1" -p "$program"
        cp "$CARGO_TARGET_DIR/$1/release/$program.wasm" "$out/$program.wasm"
        chmod 644 "$out/$program.wasm"
    done
}
build wasm32-wasip1 "$modules" "${CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS:-}"
build wasm32-wasip2 "$components"

if [ $check = yes ]; then
    for program in $modules $components; do
        if cmp -s "$out/$program.wasm" "built/$program.wasm"; then
            echo "$program: the same, byte for byte"
        else
            echo "$program: differs from built/ (another compiler, or a changed source)"
        fi
    done
else
    (cd built && sha256sum ./*.wasm > SHA256SUMS && wc -c ./*.wasm)
fi
