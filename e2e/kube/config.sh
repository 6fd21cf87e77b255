# Writes the configuration of an instance: certificates, kubeconfigs and the
# files of each node. Not a program: sourced by `up`, after lib.sh.
# shellcheck shell=bash disable=SC2154  # the names come from lib.sh

readonly pki=$state/pki

# certificate NAME SUBJECT [ALTERNATIVE NAMES]
certificate() {
  local name=$1 subject=$2 names=${3:-}
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -keyout "$pki/$name.key" -out "$pki/$name.csr" -subj "$subject" 2>/dev/null
  openssl x509 -req -in "$pki/$name.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 365 \
    -out "$pki/$name.crt" -extfile /dev/stdin 2>/dev/null <<EOF
keyUsage=digitalSignature
extendedKeyUsage=serverAuth,clientAuth
${names:+subjectAltName=$names}
EOF
}

# kubeconfig NAME: for the holder of that certificate.
kubeconfig() {
  cat >"$state/$1.kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: weir-$instance, cluster: {server: $api_url, certificate-authority: $pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $pki/$1.crt, client-key: $pki/$1.key}}]
contexts: [{name: weir-$instance, context: {cluster: weir-$instance, user: $1}}]
current-context: weir-$instance
EOF
}

write_identities() { # NODES
  local i
  mkdir -p "$pki"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$pki/ca.key" \
    -out "$pki/ca.crt" -subj "/CN=weir-$instance" -days 365 2>/dev/null
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$pki/sa.key" 2>/dev/null
  openssl pkey -in "$pki/sa.key" -pubout -out "$pki/sa.pub"
  certificate apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$host_ip,IP:$api_service_ip,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate admin /O=system:masters/CN=admin
  certificate controller-manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate proxy /CN=system:kube-proxy
  certificate provisioner /CN=weir:provisioner
  for ((i = 1; i <= $1; i++)); do
    certificate "node$i" "/O=system:nodes/CN=system:node:node$i" "DNS:node$i,IP:$(node_ip "$i")"
    kubeconfig "node$i"
  done
  for i in admin controller-manager scheduler proxy provisioner; do kubeconfig $i; done
}

write_containerd_config() { # NODE NUMBER
  local dir=$state/node$1
  mkdir -p "$dir/cni"
  # ptp, not bridge: every packet between two pods of a node is routed, so that
  # kube-proxy sees the answers too.
  cat >"$dir/cni/10-pods.conflist" <<EOF
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "mtu": 1500,
   "ipam": {"type": "host-local", "dataDir": "$dir/ipam",
            "ranges": [[{"subnet": "$(pod_range "$1")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc dies lowering it.
  cat >"$dir/containerd.toml" <<EOF
version = 2
root = "$dir/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[plugins."io.containerd.internal.v1.opt"]
  path = "$dir/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "docker.io/library/weir-e2e-pause:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
EOF
}

write_kubelet_config() { # NODE NUMBER
  local dir=$state/node$1
  # nodeStatusUpdateFrequency: a lost node is noticed in seconds (with the
  # controller manager's grace period).
  cat >"$dir/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/node$1.crt
tlsPrivateKeyFile: $pki/node$1.key
cgroupDriver: cgroupfs
cgroupRoot: /$(cgroup "node$1")
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [$dns_ip]
clusterDomain: cluster.local
resolvConf: $state/resolv.conf
podLogsDir: $dir/pod-logs
volumePluginDir: $dir/volume-plugins
nodeStatusUpdateFrequency: 2s
nodeLeaseDurationSeconds: 10
syncFrequency: 10s
maxPods: 60
serializeImagePulls: false
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
imageGCHighThresholdPercent: 100
EOF
}

write_proxy_config() { # DIRECTORY NODE NAME
  mkdir -p "$1"
  # clusterCIDR holds the pods only: what comes from the host to a service is
  # masqueraded, so that answers take the same way back.
  cat >"$1/proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $state/proxy.kubeconfig}
mode: iptables
clusterCIDR: $pods_range
hostnameOverride: $2
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 0s}
EOF
}

write_config() { # NODES
  local i
  mkdir -p "$state/log"
  echo "nameserver 127.0.0.1" >"$state/resolv.conf"
  write_identities "$1"
  for ((i = 1; i <= $1; i++)); do
    write_containerd_config "$i"
    write_kubelet_config "$i"
    write_proxy_config "$state/node$i" "node$i"
  done
  # The gateway answers for services to the host, in the name of node1.
  write_proxy_config "$state/gateway" node1
}
