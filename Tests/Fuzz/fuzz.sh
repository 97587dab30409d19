#!/bin/sh
# Builds one fuzzer outside the package graph and runs it:
#   Tests/Fuzz/fuzz.sh FrameParser [libFuzzer options, e.g. -max_total_time=60]
# Corpus and findings stay in .build/fuzz/NAME.
set -eu
name=${1:?usage: fuzz.sh FrameParser|ControlDatagram|ControlStream|ConnectionCopy|Tracker|HTTP [libFuzzer options]}
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/.build/fuzz
mkdir -p "$out/$name/corpus"
cd "$out"
for module in Model HTTP Wire Tracking; do
    # shellcheck disable=SC2046 # no path of ours has a space in it
    swiftc -O -g -sanitize=fuzzer,address -parse-as-library -swift-version 6 -whole-module-optimization -static \
        -emit-library -emit-module -module-name "$module" -I . -o "lib$module.a" \
        $(find "$root/Sources/Core/$module" -name '*.swift' | sort)
done
swiftc -O -g -sanitize=fuzzer,address -parse-as-library -swift-version 6 -module-name "${name}Fuzz" -I . -L . \
    "$root/Tests/Fuzz/${name}Fuzz.swift" -lTracking -lHTTP -lWire -lModel -o "$name/fuzz"
cd "$name"
exec ./fuzz -timeout=10 "$@" corpus
