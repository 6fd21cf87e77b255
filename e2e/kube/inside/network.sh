# A node's side of the network: waits for the cable, then sets up the address
# and the ways to the pods of the other nodes. Not a program: sourced by
# inside/node and inside/gateway.
# shellcheck shell=bash disable=SC2154  # the names come from lib.sh

eth0_exists() { ip link show eth0; }

# join_network ADDRESS NODES
join_network() {
  local i
  wait_for 30 "the cable of $name" eth0_exists
  ip link set lo up
  ip addr add "$1/24" dev eth0
  ip link set eth0 up
  ip route add default via "$host_ip"
  for ((i = 1; i <= $2; i++)); do
    [[ $name == "node$i" ]] || ip route add "$(pod_range "$i")" via "$(node_ip "$i")"
  done
  echo 1 >/proc/sys/net/ipv4/ip_forward
}
