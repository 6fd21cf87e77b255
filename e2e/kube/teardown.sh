# Ends an instance and removes all of it. Not a program: sourced by `up` (to
# clear away what a failed one left) and `down`, after lib.sh, network.sh and
# cgroups.sh. Works from any state, half-made ones included.
# shellcheck shell=bash disable=SC2154  # the names come from lib.sh

# The pids of the instance's groups: of `unshare` processes that run one of our
# scripts for this state folder, whether or not a pid file tells of them.
group_processes() {
  local dir words
  for dir in /proc/[0-9]*; do
    words=$(tr '\0' ' ' <"$dir/cmdline" 2>/dev/null) || continue
    if [[ $words == unshare\ * && $words == *"/inside/"*" $state "* ]]; then
      echo "${dir#/proc/}"
    fi
  done
}

no_group_left() { [[ -z $(group_processes) ]]; }

teardown() {
  local pid mount
  # Each ends with everything in its namespaces, by the kernel's hand.
  for pid in $(group_processes); do
    kill -KILL "$pid" 2>/dev/null || true
  done
  wait_for 20 "the processes to end" no_group_left
  wait_for 20 "the cgroups to be empty" remove_cgroups
  remove_network
  # Nothing of ours is mounted in the host's view; should something be, it must
  # not be emptied by rm.
  while read -r mount; do
    umount --lazy "$mount"
  done < <(awk -v dir="$state/" 'index($5, dir) == 1 {print $5}' /proc/self/mountinfo | sort -r)
  rm -rf "$state"
}
