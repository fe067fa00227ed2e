# shellcheck shell=bash
# Shared by the scripts: installing what is missing, building, the network namespace.
# Sourced from the top of the tree.

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "$0: $*"
  exit 1
}

# Runs a long, noisy command and shows its output only when it fails.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    fail "failed: $*"
  fi
  rm -f "$log"
}

# need PACKAGE... : installs the Debian packages that are missing. Daemons among them (nginx)
# are kept from starting on the host.
need() {
  local package missing=()
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" -eq 0 ] || fail "missing packages: ${missing[*]}; as root: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    made=1
  fi
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get -q update
  quietly apt-get -q -y --no-install-recommends install "${missing[@]}"
  [ -z "$made" ] || rm -f $policy
}

# need_command COMMAND PACKAGE : the same for what may be there from elsewhere than Debian.
need_command() { command -v "$1" >/dev/null || need "$2"; }

# shellcheck disable=SC2034 # for the scripts that source this
build_packages=(gcc libc6-dev meson ninja-build pkg-config libbsd-dev libcurl4-openssl-dev libinih-dev libjansson-dev systemtap-sdt-dev libmd-dev libncurses-dev uthash-dev)
# Some are for one test: a terminal to try top on; metrics; scripts/bench.
# shellcheck disable=SC2034
test_packages=(libcriterion-dev python3 python3-pytest iproute2 procps util-linux binutils musl-tools gdb liburing-dev curl etcd-server
  nginx-light openssl wrk socat systemd tmux python3-prometheus-client python3-yaml gnuplot-nox valgrind mptcpize)
# shellcheck disable=SC2034
system_packages=(bash-completion fakeroot fish man-db mandoc scdoc zsh)
# shellcheck disable=SC2034
package_packages=(build-essential debhelper dpkg-dev fakeroot scdoc)

# build DIRECTORY [MESON OPTION...] : configures and compiles.
build() {
  local directory=$1
  shift
  build_target "$directory" '' "$@"
}

# build_target DIRECTORY TARGET [MESON OPTION...] : the same for what one target needs.
build_target() {
  local directory=$1 target=$2
  shift 2
  if [ -d "$directory/meson-private" ]; then
    quietly meson configure "$directory" "$@"
  else
    quietly meson setup "$directory" "$@"
  fi
  quietly meson compile -C "$directory" ${target:+"$target"}
}

# in_namespace COMMAND... : runs it in a network namespace of its own, as root or, through an
# unprivileged user namespace, as anybody. All its processes end with it.
in_namespace() {
  if [ "$(id -u)" -eq 0 ]; then
    unshare --net --pid --fork --kill-child --mount-proc "$@"
  else
    unshare --user --map-root-user --net --pid --fork --kill-child --mount-proc "$@"
  fi
}
