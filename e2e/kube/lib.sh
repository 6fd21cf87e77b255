# Names, places and small helpers shared by the scripts of e2e/kube.
# Not a program: sourced by them, with the instance as its only argument.
# shellcheck shell=bash disable=SC2034  # most names are used by the scripts

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here

instance=${1:-up}
# One index for each instance: all addresses and names follow from it, so that
# the instances run side by side. 198.18.0.0/15 is the benchmark range of
# RFC 2544, which nothing routes; each instance takes a quarter of each half.
case $instance in
  up) index=0 ;;
  test) index=1 ;;
  selftest) index=2 ;;
  *)
    echo "no instance '$instance': up, test or selftest" >&2
    exit 2
    ;;
esac
readonly instance index
readonly third=$((index * 64))
readonly pods_range=198.18.$third.0/19
readonly services_range=198.19.$third.0/18
readonly api_service_ip=198.19.$third.1
readonly dns_ip=198.19.$third.10
readonly nodes_prefix=198.18.$((third + 63))
readonly host_ip=$nodes_prefix.1
readonly gateway_ip=$nodes_prefix.2
readonly etcd_port=$((23790 + 10 * index))
readonly api_url=https://$host_ip:6443
readonly bridge=wk-$instance

readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/weir/kube
readonly state=${XDG_STATE_HOME:-$HOME/.local/state}/weir/kube/$instance
export KUBECONFIG=$state/admin.kubeconfig

node_ip() { echo "$nodes_prefix.$((10 + $1))"; }
pod_range() { echo "198.18.$((third + $1)).0/24"; }
# The host's end of the cable to a node (or to the gateway), and a node's cgroup.
cable() { # at most 15 characters
  local end=${1#node}
  echo "$bridge-${end/gateway/gw}"
}
cgroup() { echo "weir-$instance-$1"; }

say() { echo "kube[$instance]: $*" >&2; }
die() {
  say "$*"
  exit 1
}

# Where a built tool lies: a folder named after everything that goes into it.
tool_dir() {
  local key
  key=$(cd "$here/tools/$1" && cat ./* | sha256sum | cut -c1-12)
  echo "$cache/$1-$key"
}
images_dir() {
  local key
  key=$( (cat "$here"/images/* && tool_dir coredns && tool_dir probe) | sha256sum | cut -c1-12)
  echo "$cache/images-$key"
}
set_tool_paths() {
  k8s_bin=$(tool_dir kubernetes)
  helm_bin=$(tool_dir helm)
  readonly k8s_bin helm_bin
}
kubectl() { "$k8s_bin/kubectl" "$@"; }

# One script at a time works on an instance.
lock() {
  mkdir -p "$cache"
  exec 9>"$cache/$instance.lock"
  flock 9
}

# wait_for SECONDS WHAT COMMAND...: polls until the command succeeds.
wait_for() {
  local seconds=$1 what=$2 deadline
  shift 2
  deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      say "waited ${seconds} s in vain for $what"
      return 1
    fi
    sleep 0.2
  done
}

# The groups of processes: "control" and one for each node and the gateway.
# Each is the first process of a PID namespace of its own, so that ending it
# ends everything in it. A saved pid is believed only while it still is the
# `unshare` that we started for this state folder.
group_pid() {
  local pid
  pid=$(cat "$state/$1.pid" 2>/dev/null) || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "unshare" || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- " $state $1 " || return 1
  echo "$pid"
}
# The pid, seen from the host, of the group's first process.
group_init() {
  local parent pid
  parent=$(group_pid "$1") || return 1
  pid=$(cat "$state/$1.init" 2>/dev/null) || return 1
  [[ $(awk '/^PPid:/ {print $2}' "/proc/$pid/status" 2>/dev/null) == "$parent" ]] || return 1
  echo "$pid"
}
group_names() {
  local file
  for file in "$state"/*.pid; do
    [[ -e $file ]] && basename "$file" .pid
  done
  return 0
}
nodes() { group_names | grep '^node' | sort -V || true; }

# on_node NODE COMMAND...: runs it among the node's mounts (its /run, its /var).
on_node() {
  local pid
  pid=$(group_init "$1") || {
    say "$1 is not running"
    return 1
  }
  shift
  nsenter --target "$pid" --mount "$@"
}
# import_image NODE FILE: makes a docker-archive known to one node.
import_image() {
  on_node "$1" ctr --namespace k8s.io images import - <"$2" >/dev/null
}
