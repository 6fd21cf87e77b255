module weir.dev/e2e/kube/probe

go 1.25.0
