# Shared by the scripts below cross/: Debian's packages, installed here or only unpacked, of any architecture.

# ensure_installed PACKAGE...: those that are missing are installed.
ensure_installed() {
  local package missing=()
  for package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends "${missing[@]}" >/dev/null; } >&2
}

# apt_of ARCH CACHE FUNCTION ARGUMENT...: calls it with an apt for machines of that architecture, as if nothing were
# installed there. Which architectures this machine has stays as it is; its own lists are used where they will do.
apt_of() {
  local arch=$1 state=$2/apt-$1 lists=$2/apt-$1/lists; shift 2
  mkdir -p "$state"/{lists,archives}/partial; : > "$state/status"
  [ "$arch" != "$(dpkg --print-architecture)" ] || lists=/var/lib/apt/lists
  cat > "$state/conf" <<END
APT::Architecture "$arch"; APT::Architectures { "$arch"; }; APT::Sandbox::User "root";
Dir::State "$state"; Dir::State::status "$state/status"; Dir::State::lists "$lists"; Dir::Cache "$state";
END
  APT_CONFIG=$state/conf "$@"
}

# download_only DIR PACKAGE...: within apt_of. The lists may be older than the mirror, or absent; one index that
# cannot be had (out of step with its mirror) is no reason to do without the others.
download_only() {
  local dir=$1; shift
  mkdir -p "$dir"
  (cd "$dir" && { apt-get -qq download "$@" 2>/dev/null || { apt-get -qq update >&2 || true; apt-get -qq download "$@"; }; }) >&2
}
