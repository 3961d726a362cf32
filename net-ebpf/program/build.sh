#!/usr/bin/env bash
# Rebuilds filter.bpf.o from its source, bit for bit: `build.sh` writes it, `build.sh --check` compares.
# Needs clang-19 and llvm-strip-19 and the kernel's UAPI headers; nobody needs them to build the validator.
set -euo pipefail
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for source in *.bpf.c; do
  object=${source%.c}.o
  clang-19 -target bpf -mcpu=v3 -O2 -fno-ident -Wall -Wextra -Werror -Wno-unused-function \
    -idirafter "/usr/include/$(uname -m)-linux-gnu" -c "$source" -o "$out/$object"
  llvm-strip-19 --strip-debug "$out/$object"
  if [ "${1:-}" = --check ]; then
    cmp "$out/$object" "$object" || { echo "$object is not what $source gives; run $0" >&2; exit 1; }
  else
    cp "$out/$object" "$object"
  fi
done
