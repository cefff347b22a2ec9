#!/bin/sh
# Tests both sides: first the compiler, which leaves compiled guests, then the runtime, which runs them.
# The two features are never on in one build, as in the programs that ship.
set -eu
cd "$(dirname "$0")"
profile=${PROFILE:-ci}
cargo test -p skerry-wasm --profile "$profile" --features compile,tools "$@"
cargo test -p skerry-wasm --profile "$profile" --features run,tools "$@"
