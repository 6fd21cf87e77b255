# The host's side of an instance's network: one bridge, and a cable from it to
# each node and to the gateway. Nothing else of the host's network is touched;
# the routes end with the bridge, and the cables with their namespaces.
# Not a program: sourced by `up` and `down`, after lib.sh.
# shellcheck shell=bash disable=SC2154  # the names come from lib.sh

make_bridge() { # NODES
  local i
  ip link add "$bridge" type bridge
  ip addr add "$host_ip/24" dev "$bridge"
  ip link set "$bridge" up
  ip route add "$services_range" via "$gateway_ip"
  for ((i = 1; i <= $1; i++)); do
    ip route add "$(pod_range "$i")" via "$(node_ip "$i")"
  done
}

# plug_in NAME: the other end is the eth0 that inside/network.sh waits for.
plug_in() {
  ip link add "$(cable "$1")" type veth peer name eth0 netns "$(group_init "$1")"
  ip link set "$(cable "$1")" master "$bridge" up
}

remove_network() {
  local link
  for link in $(ip -o link show type veth | awk -F'[ :@]+' '{print $2}' | grep "^$bridge-" || true); do
    ip link delete "$link" 2>/dev/null || true # gone with its namespace
  done
  ip link delete "$bridge" 2>/dev/null || true
}
