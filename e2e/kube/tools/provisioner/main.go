// Command provisioner gives every PersistentVolumeClaim of the end-to-end
// cluster a directory of its own on the node the scheduler chose, as a `local`
// PersistentVolume bound to that node, and removes it when the claim is gone.
//
// The nodes of this cluster are namespaces of one machine and share its file
// system, so the program makes the directories itself: no helper pods, no
// shell. It runs beside the control plane. It is not meant for real machines:
// it does not enforce sizes, and it does not resize.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// name is what the StorageClass calls us.
const name = "weir.dev/node-directory"

// directoryMode leaves the volume to root, as a fresh disk would be: a pod
// that does not run as root needs fsGroup here as it would anywhere.
const directoryMode = 0o755

type nodeDirectory struct {
	root string // volumes are root/NODE/PVNAME
}

func (p nodeDirectory) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	node := o.SelectedNodeName
	if node == "" {
		return nil, controller.ProvisioningFinished, fmt.Errorf("claim %s/%s has no node: the StorageClass must wait for the first consumer", o.PVC.Namespace, o.PVC.Name)
	}
	for _, mode := range o.PVC.Spec.AccessModes {
		if mode != v1.ReadWriteOnce && mode != v1.ReadWriteOncePod {
			return nil, controller.ProvisioningFinished, fmt.Errorf("claim %s/%s: access mode %s is not supported, a directory belongs to one node", o.PVC.Namespace, o.PVC.Name, mode)
		}
	}
	path := filepath.Join(p.root, node, o.PVName)
	if err := os.MkdirAll(path, directoryMode); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: o.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			VolumeMode:                    o.PVC.Spec.VolumeMode,
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

func (p nodeDirectory) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	if volume.Spec.Local == nil {
		return fmt.Errorf("volume %s is not a local one", volume.Name)
	}
	path := filepath.Clean(volume.Spec.Local.Path)
	// Only ROOT/NODE/PVNAME is ever ours to remove.
	if filepath.Base(path) != volume.Name || filepath.Dir(filepath.Dir(path)) != filepath.Clean(p.root) {
		return fmt.Errorf("volume %s: %s is not one of its directories in %s", volume.Name, path, p.root)
	}
	return os.RemoveAll(path)
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	root := flag.String("root", "", "directory that holds the volumes, one folder a node")
	flag.Parse()
	if *root == "" || *kubeconfig == "" {
		log.Fatal("--kubeconfig and --root are needed")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	controller.NewProvisionController(ctx, client, name, nodeDirectory{root: *root},
		controller.LeaderElection(false)).Run(ctx)
}
