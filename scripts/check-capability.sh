#!/bin/sh
# Adds a capability to a copy of the tree, as CONTRIBUTING.md describes, and checks that it compiles.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

cd "$root"
tar -cf - Cargo.toml Cargo.lock spin.toml host components wit examples test bench | tar -xf - -C "$copy"
cp test/capability/random_words.rs "$copy/host/runtime/src/capabilities/"
cp test/capability/random-words.wit "$copy/host/runtime/wit/"

cd "$copy"
python3 - <<'PYTHON'
import pathlib
file = pathlib.Path('host/runtime/src/capabilities/mod.rs')
text = file.read_text()
for before, line in [('mod resources;\n', 'mod random_words;\n'),
                     ('    variables: Variables,\n', '    random_words: random_words::RandomWords,\n')]:
    assert text.count(before) == 1, f'{file} has no line {before!r}'
    text = text.replace(before, line + before)
file.write_text(text)
PYTHON
# As `make lint` does, whose target folder has the dependencies.
cargo clippy --locked --target-dir "$root/target" --workspace --all-targets -- -D warnings
