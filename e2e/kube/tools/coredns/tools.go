//go:build tools

// Package tools pins CoreDNS, the name server of the pods.
package tools

import _ "github.com/coredns/coredns"
