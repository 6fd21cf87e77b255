# The network of an instance: one bridge on the host, and for each node (and
# the gateway) a namespace with a cable to it. Nothing else of the host's
# network is touched; all routes end with the bridge.
# Not a program: sourced by `up` and `down`, after lib.sh.
# shellcheck shell=bash disable=SC2154  # the names come from lib.sh

make_bridge() {
  ip link add "$bridge" type bridge
  ip addr add "$host_ip/24" dev "$bridge"
  ip link set "$bridge" up
}

plug_in() { # NAME ADDRESS
  local ns
  ns=$(netns "$1")
  ip netns add "$ns"
  ip link add "$(cable "$1")" type veth peer name eth0 netns "$ns"
  ip link set "$(cable "$1")" master "$bridge" up
  ip -n "$ns" link set lo up
  ip -n "$ns" addr add "$2/24" dev eth0
  ip -n "$ns" link set eth0 up
  ip -n "$ns" route add default via "$host_ip"
  nsenter --net="/var/run/netns/$ns" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

make_network() { # NODES
  local i j
  make_bridge
  plug_in gateway "$gateway_ip"
  ip route add "$services_range" via "$gateway_ip"
  for ((i = 1; i <= $1; i++)); do
    plug_in "node$i" "$(node_ip "$i")"
    ip route add "$(pod_range "$i")" via "$(node_ip "$i")"
    ip -n "$(netns gateway)" route add "$(pod_range "$i")" via "$(node_ip "$i")"
  done
  for ((i = 1; i <= $1; i++)); do
    for ((j = 1; j <= $1; j++)); do
      ((i == j)) || ip -n "$(netns "node$i")" route add "$(pod_range "$j")" via "$(node_ip "$j")"
    done
  done
}

remove_network() {
  local ns link
  for ns in $(ip netns list | awk '{print $1}' | grep "^weir-$instance-" || true); do
    ip netns delete "$ns"
  done
  for link in $(ip -o link show type veth | awk -F'[ :@]+' '{print $2}' | grep "^$bridge-" || true); do
    ip link delete "$link" 2>/dev/null || true
  done
  ip link delete "$bridge" 2>/dev/null || true
}
