# What the run scripts share: the program as it was built here, or PERILUNE; the libraries, or PERILUNE_LIB.
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$(cd "$(dirname "$0")" && pwd)
perilune=${PERILUNE:-$root/build/release/perilune}
library=${PERILUNE_LIB:-$(dirname "$perilune")/lua}
[ -x "$perilune" ] || { echo "there is no $perilune: run 'make' in $root first" >&2; exit 1; }
export LUA_CPATH="$library/?.so;;" LUA_PATH=";;"
