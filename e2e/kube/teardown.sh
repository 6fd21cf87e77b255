# Ends an instance and removes all of it. Not a program: sourced by `up` (to
# clear away what a failed one left) and `down`, after lib.sh, network.sh and
# cgroups.sh. Works from any state, half-made ones included.
# shellcheck shell=bash disable=SC2154  # the names come from lib.sh

# The pids of the instance's groups, whether or not a pid file tells of them:
# of the processes that run one of our scripts for this state folder, `unshare`
# and the first in its namespace.
group_processes() {
  local dir words
  for dir in /proc/[0-9]*; do
    words=$({ tr '\0' ' ' <"$dir/cmdline"; } 2>/dev/null) || continue
    if [[ $words =~ ^(unshare|[^ ]*bash)\ && $words == *"/inside/"*" $state "* ]]; then
      echo "${dir#/proc/}"
    fi
  done
}

# A process that waits for its namespace to empty has no command line any more,
# so that only the pid tells whether it is gone.
all_gone() { # PID...
  local pid
  for pid in "$@"; do
    [[ ! -e /proc/$pid ]] || grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null || [[ ! -e /proc/$pid ]] || return 1
  done
}

teardown() {
  local mount
  local -a pids
  mapfile -t pids < <(group_processes)
  # Each ends with everything in its namespace, by the kernel's hand.
  ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
  wait_for 20 "the processes to end" all_gone "${pids[@]}"
  wait_for 20 "the cgroups to be empty" remove_cgroups
  remove_network
  # Nothing of ours is mounted in the host's view; should something be, it must
  # not be emptied by rm.
  while read -r mount; do
    umount --lazy "$mount"
  done < <(awk -v dir="$state/" 'index($5, dir) == 1 {print $5}' /proc/self/mountinfo | sort -r)
  rm -rf "$state"
  rmdir "${state%/*}" 2>/dev/null || true # the last instance's
}
