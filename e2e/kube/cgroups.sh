# The cgroup that holds each node's pods, in every hierarchy there is.
# Not a program: sourced by `up` and `down`, after lib.sh.
# shellcheck shell=bash disable=SC2154  # the names come from lib.sh

readonly cgroups=/sys/fs/cgroup

hierarchies() {
  if [[ -e $cgroups/cgroup.controllers ]]; then
    echo $cgroups # version 2: only one
  else
    find $cgroups -mindepth 1 -maxdepth 1 -type d
  fi
}

make_cgroup() { # NODE NAME
  local hierarchy dir file
  for hierarchy in $(hierarchies); do
    dir=$hierarchy/$(cgroup "$1")
    mkdir -p "$dir"
    # version 1: an empty cpuset takes no process
    for file in cpuset.mems cpuset.cpus; do
      [[ ! -e $hierarchy/tasks || ! -e $dir/$file ]] || cat "$hierarchy/$file" >"$dir/$file"
    done
    # version 2: the controllers are handed down one level at a time
    if [[ -e $dir/cgroup.subtree_control ]]; then
      sed 's/\(^\| \)/ +/g' "$hierarchy/cgroup.controllers" >"$hierarchy/cgroup.subtree_control" 2>/dev/null || true
    fi
  done
}

our_cgroups() {
  local hierarchy
  for hierarchy in $(hierarchies); do
    find "$hierarchy" -mindepth 1 -maxdepth 1 -type d -name "weir-$instance-*"
  done
}

# Fails while a process is left in one of them.
remove_cgroups() {
  local dir
  for dir in $(our_cgroups); do
    find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  [[ -z $(our_cgroups) ]]
}
