#!/bin/sh
# Builds the example policies into a folder: build.sh FOLDER. Outside SwiftPM, whose products would carry the Swift
# runtime: these need libc alone.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
header=${BATON_POLICY_INCLUDE:-$here/../../Sources/Modules/CPolicy/include}
to=$1
flags="-O2 -Wall -Wextra -Werror -fPIC -fvisibility=default -I $header"
clang $flags -shared -o "$to/reversed.so" "$here/c/reversed.c"
swiftc -enable-experimental-feature Embedded -wmo -O -parse-as-library -module-name spare \
    -import-objc-header "$header/baton_policy.h" -c "$here/swift/spare.swift" -o "$to/spare.swift.o"
clang $flags -shared -o "$to/spare.so" "$here/swift/spare.c" "$to/spare.swift.o"
rm "$to/spare.swift.o"
