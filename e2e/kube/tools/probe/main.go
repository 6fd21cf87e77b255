// Command probe is the program in the pods of the cluster's own test
// (e2e/kube/selftest): something static that can be exec'd, keeps a file,
// resolves names and answers HTTP. It is not part of Weir.
//
//	probe serve ADDRESS             answer HTTP with the host's name
//	probe get URL                   fetch a page
//	probe resolve [-server IP] NAME print the addresses of a name, one a line
//	probe write FILE TEXT           write and sync a file
//	probe read FILE                 print a file
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const timeout = 3 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: probe serve|get|resolve|write|read ARGUMENT...")
	}
	switch verb, rest := args[0], args[1:]; {
	case verb == "serve":
		return serve(rest[0])
	case verb == "get":
		return get(rest[0])
	case verb == "resolve":
		return resolve(rest)
	case verb == "write" && len(rest) == 2:
		return write(rest[0], rest[1])
	case verb == "read":
		text, err := os.ReadFile(rest[0])
		fmt.Print(string(text))
		return err
	default:
		return fmt.Errorf("cannot %s with %d arguments", verb, len(rest))
	}
}

func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, name)
	}))
}

func get(url string) error {
	client := http.Client{Timeout: timeout}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func resolve(args []string) error {
	flags := flag.NewFlagSet("resolve", flag.ExitOnError)
	server := flags.String("server", "", "ask this name server, not the one of resolv.conf")
	if err := flags.Parse(args); err != nil {
		return err
	}
	resolver := &net.Resolver{PreferGo: true}
	if *server != "" {
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(*server, "53"))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	addresses, err := resolver.LookupHost(ctx, flags.Arg(0))
	for _, address := range addresses {
		fmt.Println(address)
	}
	return err
}

func write(path, text string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.WriteString(text); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}
