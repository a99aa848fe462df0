package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sallyport.dev/sallyport/events"
)

// An agent that dials the server's unix socket comes to the same resource, and
// the record says which path it dialled.
func TestUnixPath(t *testing.T) {
	dir, err := os.MkdirTemp("", "sallyport-unix")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o1777); err != nil {
		t.Fatal(err)
	}
	server, _ := startPostgresWith(t, "-c unix_socket_directories="+dir)
	path := filepath.Join(dir, ".s.PGSQL."+port(server))
	h := newHost(t, server)
	h.catalog = fmt.Sprintf(", unix: [%s]", path)
	h.configure()
	h.serve()
	token := h.token("agent-a")
	out, err := h.agent(token, "psql", "-X", "-A", "-t", "-h", dir, "-p", port(server), "-c", "select 6*7").CombinedOutput()
	if err != nil || string(out) != "42\n" {
		t.Errorf("by the path: %q, %v", out, err)
	}
	if out, err := h.psqlWith(token, "-c", "select 6*7"); err != nil || out != "42\n" {
		t.Errorf("by the address: %q, %v", out, err)
	}
	h.stop()
	logins := recorded(h.record(), events.Login)
	if len(logins) != 2 {
		t.Fatalf("%d logins: %+v", len(logins), logins)
	}
	if a := logins[0]; a.Resource != "clinic" || a.Path != path || a.Destination.IsValid() || a.Workload != "agent-a" {
		t.Errorf("by the path: %+v", a)
	}
	if b := logins[1]; b.Resource != "clinic" || b.Path != "" || b.Destination.String() != server {
		t.Errorf("by the address: %+v", b)
	}
}
