# The first process of a group's PID namespace: makes the group's mounts, keeps
# its programs running and reaps what they leave. Not a program: sourced by
# inside/control, inside/node and inside/gateway, whose arguments are STATE NAME
# INSTANCE NODES: the first is there to be seen in the list of processes.
# shellcheck shell=bash disable=SC2154,SC2034

# shellcheck source=e2e/kube/lib.sh
. "$(dirname "$0")/../lib.sh" "$3"
name=$2 nodes=$4
readonly name nodes
set_tool_paths

# /proc is still the host's here, and tells our pid as the host sees it.
read -r pid _ </proc/self/stat
echo "$pid" >"$state/$name.init"
mount -t proc proc /proc

# keep LOG COMMAND...: runs it, again and again.
keep() {
  local log=$state/log/$1.log
  shift
  while :; do
    "$@" >>"$log" 2>&1 || true
    echo "=== ended, starts again in 1 s" >>"$log"
    sleep 1
  done &
}

# own_directory DIRECTORY PATH...: an empty one of the group's own over the
# host's, in which those of the paths that lie there are put back.
own_directory() {
  local dir=$1 path
  shift
  cd "$dir" || return # what is below stays within reach from here
  mount -t tmpfs -o mode=0755 tmpfs "$dir"
  for path in "$@"; do
    [[ $path == "$dir"/* ]] || continue
    mkdir -p "$path"
    mount --no-canonicalize --bind "./${path#"$dir"/}" "$path"
  done
  cd /
}
