# shellcheck shell=bash
# What the shell scripts share. The current directory is an empty one of the test's own.

set -Eeuo pipefail
trap 'echo "FAILED in ${FUNCNAME[0]:-the script}, line $LINENO: $BASH_COMMAND" >&2' ERR
host=${AWS_ENDPOINT_URL#http://}

# holds SCENARIO ...: runs the functions, whose names say what holds
holds() {
    local scenario start
    for scenario; do
        start=$SECONDS
        "$scenario"
        printf 'ok %4d s  %s\n' $((SECONDS - start)) "$scenario"
    done
}

# noise SIZE [SEED]: bytes that don't compress, the same for the same seed
noise() {
    python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random(int(sys.argv[2])).randbytes(int(sys.argv[1])))' \
        "$1" "${2:-0}"
}

# tree DIRECTORY: files of all kinds in it
tree() {
    local name n=0
    for name in a.txt empty 'b/with spaces' 'b/plus+percent%25&more' 'b/c/ü 日本' "b/quote'd \"twice\"" 'd/e/f/g/deep' .hidden; do
        mkdir -p -- "$1/$(dirname -- "$name")"
        noise $((n * 4321)) $((n += 1)) >"$1/$name"
    done
    : >"$1/empty"
    noise $((12 << 20)) 99 >"$1/large"
}

# same ONE OTHER: the same directories, or the same files
same() {
    diff --recursive -- "$1" "$2" >&2
}

# refused COMMAND ...: it fails. Its words are in the file `refusal`
refused() {
    if "$@" >refusal 2>&1; then
        echo "it was done: $*" >&2
        return 1
    fi
}

# says TEXT FILE: the file has the text in it
says() {
    grep -qF -- "$1" "$2" || {
        echo "'$1' expected in:" >&2
        cat -- "$2" >&2
        return 1
    }
}
