package spiffe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
	"sallyport.dev/sallyport/intercept/privsep"
)

// The daemon as it is: an unprivileged user without groups, no capability, not
// dumpable, with its list of system calls, and the loader's proof over the line.
// SPIRE knows it by its user, and its sockets are of its group.
func TestConfined(t *testing.T) {
	s := spiretest.Start(t, spiretest.Options{Group: daemonUID})
	s.Register(spiretest.Entry{Path: "/sallyport", Selectors: []string{"unix:uid:65532"}})
	s.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534", "unix:path:/usr/bin/sleep"}})
	peer := peerOf(t, agent(t, uidA))
	record, err := json.Marshal(peer)
	if err != nil {
		t.Fatal(err)
	}
	self := s.Dir + "/daemon" // the user of the daemon can't reach what go test has built
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(self, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]spiffe.Config{
		"broker":    {Agent: "unix://" + s.Workload, Broker: "unix://" + s.Broker},
		"delegated": {Agent: "unix://" + s.Workload, Admin: "unix://" + s.Admin},
	} {
		t.Run(name, func(t *testing.T) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fds[0])
			var out bytes.Buffer
			child, err := privsep.Start(privsep.Options{
				Path: self, Args: []string{"daemon"}, UID: daemonUID, GID: daemonUID, Stdout: &out, Stderr: os.Stderr, Prover: newProver(t, s.Dir),
				// The connection, and the kernel's record of it.
				Files:  []*os.File{os.NewFile(uintptr(fds[1]), "accepted")},
				Record: func(int) (intercept.Peer, error) { return peer, nil },
				Env:    []string{"SPIFFE_TEST_DAEMON=" + string(record), "AGENT=" + c.Agent, "ADMIN=" + c.Admin, "BROKER=" + c.Broker},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Wait(); err != nil || strings.TrimSpace(out.String()) != "spiffe://one.test/agent "+name {
				t.Fatalf("%v: %s", err, out.String())
			}
		})
	}
}

// daemon is the test program as the daemon.
func daemon() int {
	line, err := privsep.Dial()
	if err == nil {
		err = privsep.Confine()
	}
	if err == nil {
		err = bindOnce(line)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func bindOnce(line *privsep.Client) error {
	var peer intercept.Peer
	if err := json.Unmarshal([]byte(os.Getenv("SPIFFE_TEST_DAEMON")), &peer); err != nil {
		return err
	}
	files, err := privsep.Inherited(1)
	if err != nil {
		return err
	}
	conn, err := net.FileConn(files[0])
	if err != nil {
		return err
	}
	peer.Socket = conn.(*net.UnixConn)
	a, err := spiffe.Open(spiffe.Config{Agent: os.Getenv("AGENT"), Admin: os.Getenv("ADMIN"), Broker: os.Getenv("BROKER")})
	if err != nil {
		return err
	}
	defer a.Close()
	for end := time.Now().Add(soon); ; time.Sleep(50 * time.Millisecond) {
		l, err := a.Bind(context.Background(), spiffe.Connection{Peer: &peer, Workload: "a", Prove: func(ctx context.Context) error {
			_, err := line.Prove(ctx, &peer)
			return err
		}})
		switch {
		case err == nil:
			is := l.Identity()
			if _, err := l.JWT(context.Background(), "db.test"); err != nil {
				return err
			}
			fmt.Println(is.ID, is.Via)
			return nil
		case time.Now().After(end):
			return err
		}
	}
}
