#!/usr/bin/env bash
# Rebuilds net.bpf.o from its source, bit for bit: `build.sh` writes it, `build.sh --check` compares.
# Needs clang-19, llvm-strip-19 and the kernel's UAPI headers; nobody needs them to build the benchmarks.
set -euo pipefail
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
clang-19 -target bpf -mcpu=v3 -O2 -fno-ident -Wall -Wextra -Werror -Wno-unused-function \
  -idirafter "/usr/include/$(uname -m)-linux-gnu" -c net.bpf.c -o "$out/net.bpf.o"
llvm-strip-19 --strip-debug "$out/net.bpf.o"
if [ "${1:-}" = --check ]; then
  cmp "$out/net.bpf.o" net.bpf.o || { echo "net.bpf.o is not what net.bpf.c gives; run $0" >&2; exit 1; }
else
  cp "$out/net.bpf.o" net.bpf.o
fi
