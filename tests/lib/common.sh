# Shared by tests/run, examples/demo and .ci/run: what a machine needs, and how long each stage took.

stages=()

# stage NAME COMMAND...: run it, remember its seconds, stop everything when it fails.
stage() {
  local name=$1 start=$SECONDS; shift
  printf '\n== %s\n' "$name"
  if ! "$@"; then
    printf '\n== %s FAILED after %d s\n' "$name" $((SECONDS - start)) >&2
    exit 1
  fi
  stages+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
}

print_stages() {
  printf '\nSeconds per stage\n'
  printf '%s\n' "${stages[@]}"
  printf '%s\n' "${stages[@]}" | awk '$3 == "build:" {n += $1} END {if (n) printf "%5d s  of these building\n", n}'
  printf '%5d s  in all\n' "$SECONDS"
}

need_linux_root() {
  [ "$(uname -s)" = Linux ] || { echo "This needs Linux: it runs workloads in cgroups." >&2; exit 1; }
  [ "$(id -u)" = 0 ] || { echo "This needs root (cgroups, mounts): run it with sudo." >&2; exit 1; }
}

# ensure_packages yes|no PACKAGE...: install the missing Debian packages, or name them.
ensure_packages() {
  local install=$1 missing=() package; shift
  command -v dpkg-query >/dev/null || { echo "Not a Debian system: install the equivalents of: $*"; return 0; }
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || { echo "all there"; return 0; }
  if [ "$install" = no ]; then
    echo "Missing: ${missing[*]}. Install them with: apt-get install ${missing[*]}" >&2
    return 1
  fi
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

ensure_rust() {
  command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup, then run this again." >&2; return 1; }
  cargo --version
}

# cargo unites features over what one command builds. Neither side may be tested with the other's
# engine switched on, and with these groups every large dependency is built once and no more.
LIGHT='-p skerry-contract -p agent-core -p hub-core -p skerry-kv -p skerry-transport --features skerry-contract/codec,skerry-contract/manifest,skerry-transport/suite'
# On its own: nothing that it switches on reaches the other groups.
CONTAINERS='-p skerry-oci --features skerry-oci/run,skerry-oci/pull,skerry-oci/tools'
HUB_SIDE='-p hub -p hub-broker -p skerry-wasm --features skerry-wasm/compile,skerry-wasm/tools'
AGENT_SIDE='-p edge-agent -p skerry-wasm --features skerry-wasm/run,skerry-wasm/tools'

target_dir() { printf '%s' "${CARGO_TARGET_DIR:-$PWD/target}"; }

# Each alone, so that the agent gets no compiler and the hub no runtime.
build_binaries() {
  cargo build --profile ci -p hub && cargo build --profile ci -p edge-agent
}

# Which promise of the field (FIELD ids F1..F33) is held by which test, from the tests that ran.
print_field_table() {
  printf '\nField complaints and the tests that hold them\n'
  # What one program leaves out and another runs (the emulated board) has run.
  sed -nE 's/^test (.*::)?(f0*([0-9]+)_[a-z0-9_]+) \.\.\. ([a-zA-Z]+).*/F\3 \4 \2/p' "$1" | sort -u |
    awk '{key = $1 " " $3; rank = $2 == "FAILED" ? 3 : $2 == "ok" ? 2 : 1
          if (rank > best[key]) {best[key] = rank; state[key] = $2}}
      END {for (key in state) {split(key, part, " "); printf "  %-4s %-7s %s\n", part[1], state[key], part[2]}}' | sort -V
}

# The sum over every test program, in one line that scripts can read.
total() {
  awk '/^test result:/ {for (i = 1; i <= NF; i++) {if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i; if ($(i+1) ~ /^ignored/) s += $i}}
    END {printf "\n%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0}' "$1"
}
