#!/usr/bin/env bash
# Proves that a clone works on a bare Debian 12: makes one (only git, python3 and certificates added), clones
# this repository into it and runs ./dev demo, ./dev test, and ./dev demo again as a user without rights.
#
#   sudo tools/check/fresh_debian.sh [FOLDER] [TASK...]     TASK: demo, prompt, test, user, ci (default: the first four)
#
# Needs root and debootstrap. How apt and pip reach their mirrors is read from this machine at run time.
# FOLDER (default: a temporary one) holds the tree and is removed at the end; KEEP=1 keeps it.
# shellcheck disable=SC2016 # $(NAME) in the formats below is apt's
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
say() { printf '\n=== %s\n' "$*" >&2; }
die() {
  printf 'fresh_debian: %s\n' "$*" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || die 'wanted root: debootstrap and chroot need it'
command -v debootstrap >/dev/null || die 'wanted debootstrap (apt-get install debootstrap)'

# A mount namespace of our own: all mounts below vanish with this script, however it ends.
if [ "${LAMINA_IN_NAMESPACE:-}" != 1 ]; then
  LAMINA_IN_NAMESPACE=1 exec unshare --mount --propagation private "${BASH_SOURCE[0]}" "$@"
fi

folder=${1:-$(mktemp -d)}
shift || true
tasks=("$@")
[ ${#tasks[@]} -gt 0 ] || tasks=(demo prompt test user)
mkdir -p "$folder"
tree=$(cd "$folder" && pwd)/debian12
[ ! -e "$tree" ] || die "$tree exists already"

cleanup() {
  status=$?
  awk -v tree="$tree/" 'index($2, tree) == 1 {print $2}' /proc/self/mounts | sort -r | xargs -r -n 1 umount -l || status=1
  if [ "${KEEP:-}" = 1 ]; then
    echo "kept $tree" >&2
  elif [ -e "$tree/proc/self" ]; then
    echo "still mounted, so not removed: $tree" >&2
  else
    rm -rf --one-file-system "$tree"
  fi
  exit "$status"
}
trap cleanup EXIT

# apt's proxy, for debootstrap, which reads only the environment.
proxy=$(apt-config dump --format '%v' Acquire::http::Proxy 2>/dev/null || true)
if [ -n "$proxy" ] && [ -z "${http_proxy:-}" ]; then export http_proxy=$proxy; fi
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 'Origin: Debian' \
  2>/dev/null | head -n 1)

say 'making a bare Debian 12'
debootstrap --variant=minbase --include=git,python3,ca-certificates bookworm "$tree" ${mirror:+"$mirror"} >"$folder/debootstrap.log" 2>&1 ||
  die "debootstrap failed, see $folder/debootstrap.log"

# carry PATH...: copy this machine's files into the tree at the same place.
carry() {
  local path
  for path; do
    [ -e "$path" ] || continue
    mkdir -p "$tree$(dirname "$path")"
    cp -aL --remove-destination "$path" "$tree$(dirname "$path")/"
  done
}
carry /etc/resolv.conf /etc/hosts /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/pip.conf /etc/xdg/pip \
  /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates
if [ -f "${HOME:-/root}/.config/pip/pip.conf" ]; then
  mkdir -p "$tree/root/.config/pip" && cp "$HOME/.config/pip/pip.conf" "$tree/root/.config/pip/"
fi
if [ -f "${HOME:-/root}/.pip/pip.conf" ]; then mkdir -p "$tree/root/.pip" && cp "$HOME/.pip/pip.conf" "$tree/root/.pip/"; fi
# Only what says how to reach a mirror: hooks and options of this machine stay here.
apt-config dump | grep -E '^Acquire::(http|https|ftp|Retries|Check-Valid-Until|Check-Date)' \
  >"$tree/etc/apt/apt.conf.d/90carried" || true
if [ -n "$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 2>/dev/null)" ]; then
  rm -f "$tree/etc/apt/sources.list"
  apt-get indextargets --format 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(REPO_URI) $(RELEASE) main' \
    'Created-By: Packages' 'Component: main' 'Origin: Debian' | sort -u | grep bookworm >"$tree/etc/apt/sources.list.d/carried.list"
fi

# The environment of a clean login, plus what says how to reach package indexes.
environment=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb)
while IFS='=' read -r -d '' name value; do
  case $name in
    http_proxy | https_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | NO_PROXY | PIP_* | SSL_CERT_* | REQUESTS_CA_BUNDLE)
      environment+=("$name=$value")
      case $value in /*) carry "$value" ;; esac
      ;;
  esac
done < <(env -0)

for place in proc sys dev; do mount --rbind "/$place" "$tree/$place"; done
git clone -q --no-local "$root" "$tree/root/lamina"

# inside USER COMMAND: run a shell command in the clone, in the tree, with no input.
inside() {
  local user=$1 home=/root
  shift
  local change=()
  if [ "$user" != root ]; then
    home=/home/$user
    change=(--userspec="$user:$user")
  fi
  chroot "${change[@]}" "$tree" /usr/bin/env -i "${environment[@]}" HOME="$home" USER="$user" \
    /bin/sh -c "cd '$home/lamina' && $*" </dev/null
}

for task in "${tasks[@]}"; do
  started=$SECONDS
  say "$task"
  case $task in
    demo) inside root ./dev demo ;;
    prompt) inside root "./dev demo 'def read_lines(path):'" ;;
    test) inside root ./dev test ;;
    ci) inside root 'CI=true .ci/run' ;;
    user)
      chroot "$tree" useradd -m plain
      git clone -q --no-local "$root" "$tree/home/plain/lamina"
      chroot "$tree" chown -R plain:plain /home/plain
      inside plain ./dev demo
      inside plain ./dev test
      ;;
    *) die "unknown task '$task'" ;;
  esac
  say "$task passed in $((SECONDS - started)) s"
done
